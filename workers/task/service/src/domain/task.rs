//! A task, and the event that describes each of its versions.

use std::time::Duration;

use contract::event::{Envelope, EventType};
use contract::id::{AttachmentId, TaskId, UserId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

pub const MAX_TITLE_CHARS: usize = 200;
pub const MAX_DESCRIPTION_CHARS: usize = 10_000;
pub const MAX_TAGS: usize = 20;
pub const MAX_TAG_CHARS: usize = 50;

/// The `source` of all task events.
const SOURCE: &str = "/services/task";

/// Defines an enumeration with one text form, which the API, the events and the stores all use.
macro_rules! string_enum {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name { $(#[serde(rename = $word)] $variant,)* }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            pub const NAMES: &'static [&'static str] = &[$($word,)*];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            pub fn parse(word: &str) -> Result<Self, String> {
                match word {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(format!("must be one of {}", Self::NAMES.join(", "))),
                }
            }
        }
    };
}

pub(crate) use string_enum;

string_enum! {
    Status { Todo = "todo", InProgress = "in_progress", Done = "done", Cancelled = "cancelled", }
}

string_enum! {
    /// In ascending order.
    Priority { Low = "low", Normal = "normal", High = "high", Urgent = "urgent", }
}

/// A file that belongs to a task. It never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    pub id: AttachmentId,
    /// The file name that the client sent, without folders.
    pub name: String,
    /// The media type that the client sent.
    pub content_type: String,
    /// In bytes.
    pub size: u64,
    /// The digest of its bytes, in hex.
    pub sha256: String,
}

/// A task, as the API and the events represent it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub id: TaskId,
    pub title: String,
    pub description: String,
    pub status: Status,
    pub priority: Priority,
    #[serde(with = "contract::time::millis::option")]
    pub due_at: Option<Timestamp>,
    pub tags: Vec<String>,
    pub owner_id: UserId,
    pub assignee_id: Option<UserId>,
    pub attachments: Vec<Attachment>,
    /// 1 at creation; every event increases it by one.
    pub version: u64,
    #[serde(with = "contract::time::millis")]
    pub created_at: Timestamp,
    #[serde(with = "contract::time::millis")]
    pub updated_at: Timestamp,
}

/// The members of a task that clients set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    pub title: String,
    pub description: String,
    pub status: Status,
    pub priority: Priority,
    pub due_at: Option<Timestamp>,
    pub tags: Vec<String>,
    pub assignee_id: Option<UserId>,
}

/// A new version of a task, with the event that describes it.
pub type NewVersion = (Task, Envelope);

impl Task {
    pub fn create(owner_id: UserId, new: NewTask, now: Timestamp) -> NewVersion {
        Self::create_with_attachments(TaskId::new(), Vec::new(), owner_id, new, now)
    }

    /// Creates a task with attachments, which were stored under its id before.
    pub fn create_with_attachments(
        id: TaskId,
        attachments: Vec<Attachment>,
        owner_id: UserId,
        new: NewTask,
        now: Timestamp,
    ) -> NewVersion {
        let actor = owner_id.clone();
        let task = Self {
            id,
            title: new.title,
            description: new.description,
            status: new.status,
            priority: new.priority,
            due_at: new.due_at,
            tags: new.tags,
            owner_id,
            assignee_id: new.assignee_id,
            attachments,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        let event = task.event(EventType::TaskCreated, &actor, &[]);
        (task, event)
    }

    /// Reads the version of the task that the event carries.
    pub fn from_event(event: &Envelope) -> Result<Self, serde_json::Error> {
        Self::deserialize(&event.data["task"])
    }

    /// Whether this user may know that the task exists.
    pub fn is_visible_to(&self, user: &UserId) -> bool {
        self.owner_id == *user || self.assignee_id.as_ref() == Some(user)
    }

    /// The attachment with this id.
    pub fn attachment(&self, id: &str) -> Option<&Attachment> {
        self.attachments.iter().find(|file| file.id.as_str() == id)
    }

    /// Removes one attachment; `None` if the task has no attachment with this id.
    pub fn detach(&self, id: &str, actor: &UserId, now: Timestamp) -> Option<NewVersion> {
        let mut task = self.clone();
        task.attachments.retain(|file| file.id.as_str() != id);
        if task.attachments.len() == self.attachments.len() {
            return None;
        }
        task.advance(now);
        let event = task.event(EventType::TaskUpdated, actor, &["attachments"]);
        Some((task, event))
    }

    pub(super) fn advance(&mut self, now: Timestamp) {
        self.version += 1;
        // Invariant: a later version has a later time, even when the clock goes back.
        self.updated_at = now.max(self.updated_at + Duration::from_millis(1));
    }

    pub(super) fn event(
        &self,
        event_type: EventType,
        actor: &UserId,
        changed: &[&str],
    ) -> Envelope {
        let data = json!({"task": self, "changed": changed, "actor_id": actor});
        let (id, time) = (self.id.as_str(), self.updated_at);
        Envelope::new(SOURCE, event_type, id, self.version, time, data)
    }
}
