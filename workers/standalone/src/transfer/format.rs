//! The lines that an export writes and an import reads. Member names are the format: a change needs
//! another [`FORMAT`].

use contract::id::{AttachmentId, TaskId};
use notifications::store::transfer::{AppliedEvent, CounterRecord, NotificationRecord};
use serde::{Deserialize, Serialize};
use tasks::domain::Erasure;
#[cfg(feature = "servers")]
use tasks::store::files::FileRef;
use tasks::store::transfer::TaskWithHistory;
use users::store::transfer::Account;

/// The version of these lines.
pub(super) const FORMAT: u32 = 1;
/// How many lines are read or written at a time.
pub(super) const BATCH_SIZE: usize = 500;

/// One line of an export.
#[derive(Serialize, Deserialize)]
#[serde(tag = "line", content = "is", rename_all = "snake_case")]
pub(super) enum Line {
    /// The first line.
    Sluice {
        format: u32,
    },
    User(Account),
    /// A chunk of a task's file, in order, before the task.
    File(Chunk),
    Task(TaskWithHistory),
    Erasure(Erasure),
    Notification(NotificationRecord),
    Counter(CounterRecord),
    Applied(AppliedEvent),
    /// The last line, with the totals, so that a truncated export is recognised.
    End(Totals),
}

/// One chunk of a file.
#[derive(Serialize, Deserialize)]
pub(super) struct Chunk {
    pub(super) task: TaskId,
    pub(super) id: AttachmentId,
    pub(super) index: u64,
    /// Base64.
    pub(super) data: String,
}

#[cfg(feature = "servers")]
impl Chunk {
    pub(super) fn file(&self) -> FileRef {
        FileRef {
            task: self.task.clone(),
            id: self.id.clone(),
        }
    }
}

/// How much was moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub users: u64,
    pub tasks: u64,
    pub notifications: u64,
    pub files: u64,
    /// Counters, ids of applied events and erasures.
    pub others: u64,
}

impl Totals {
    pub(super) fn count(&mut self, line: &Line) {
        match line {
            Line::User(_) => self.users += 1,
            Line::Task(task) => {
                self.tasks += 1;
                self.files += task.task.attachments.len() as u64;
            }
            Line::Notification(_) => self.notifications += 1,
            Line::Erasure(_) | Line::Counter(_) | Line::Applied(_) => self.others += 1,
            Line::Sluice { .. } | Line::File(_) | Line::End(_) => {}
        }
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            users,
            tasks,
            notifications,
            files,
            ..
        } = self;
        write!(
            f,
            "{users} users, {tasks} tasks with {files} files, {notifications} notifications"
        )
    }
}
