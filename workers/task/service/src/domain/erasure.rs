//! What happens to the tasks of a deleted user, and how long the worker keeps looking for them.

use std::time::Duration;

use contract::event::EventType;
use contract::id::UserId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::task::{NewVersion, Task};

/// How long after the end of an account its user's data may still be written. The last access token
/// is valid for ten more minutes, and the body of a request may take half a minute.
const LATE_WRITES: Duration = Duration::from_secs(15 * 60);
const MIN_GAP: Duration = Duration::from_secs(1);
/// The longest gap after a pass that left something behind.
const MAX_RETRY_GAP: Duration = Duration::from_secs(60);

/// A deleted user whose data is being erased. It ends when nothing is left and nothing more can be
/// written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    pub user_id: UserId,
    /// When this service learned of the deletion, by its own clock: later than the deletion itself.
    #[serde(with = "contract::time::millis")]
    pub since: Timestamp,
    /// When the next pass over the user's tasks is due.
    #[serde(with = "contract::time::millis")]
    pub due_at: Timestamp,
}

impl Erasure {
    pub fn new(user_id: UserId, now: Timestamp) -> Self {
        Self {
            user_id,
            since: now,
            due_at: now,
        }
    }

    /// When the pass after the one that began at `began` is due; `None` when the erasure is over.
    /// `clean` says that the pass left nothing of the user behind.
    ///
    /// After a clean pass the gap is as long as the time that has passed since the erasure began, so
    /// data that is written late stays at most as long as it was late.
    pub fn next(&self, began: Timestamp, clean: bool) -> Option<Timestamp> {
        let end = self.since + LATE_WRITES;
        // `since` may come from a worker whose clock is ahead of ours.
        let passed = Duration::try_from(began.duration_since(self.since)).unwrap_or_default();
        let gap = passed.max(MIN_GAP);
        match clean {
            true if began >= end => None,
            true => Some((began + gap).min(end)),
            false => Some(began + gap.min(MAX_RETRY_GAP)),
        }
    }
}

/// A task after its user was erased from it.
#[derive(Debug, Clone, PartialEq)]
pub enum Erased {
    /// The user owned it: this is its last version.
    Deleted(NewVersion),
    /// Another user owns it: it has no assignee any more.
    Unassigned(NewVersion),
}

impl Task {
    /// Erases a deleted user from the task; `None` if the user is neither owner nor assignee. The
    /// event names the deleted user as its actor, so notifications name that user too.
    pub fn erase(&self, user: &UserId, now: Timestamp) -> Option<Erased> {
        let mut task = self.clone();
        task.advance(now);
        if self.owner_id == *user {
            let event = task.event(EventType::TaskDeleted, user, &[]);
            return Some(Erased::Deleted((task, event)));
        }
        task.assignee_id.take_if(|assignee| assignee == user)?;
        let event = task.event(EventType::TaskUpdated, user, &["assignee_id"]);
        Some(Erased::Unassigned((task, event)))
    }
}
