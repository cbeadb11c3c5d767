//! A task, and the event that tells of each of its versions.

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

/// An enumeration that is written in one way everywhere.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name { $(#[serde(rename = $word)] $variant,)* }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            pub const WORDS: &'static [&'static str] = &[$($word,)*];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            pub fn parse(word: &str) -> Result<Self, String> {
                match word {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(format!("must be one of {}", Self::WORDS.join(", "))),
                }
            }
        }
    };
}

pub(crate) use words;

words! {
    Status { Todo = "todo", InProgress = "in_progress", Done = "done", Cancelled = "cancelled", }
}

words! {
    /// From the least on.
    Priority { Low = "low", Normal = "normal", High = "high", Urgent = "urgent", }
}

/// A file that belongs to a task. It never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    pub id: AttachmentId,
    /// What the client calls it, without folders.
    pub name: String,
    /// As the client says.
    pub content_type: String,
    /// In bytes.
    pub size: u64,
    /// Of its bytes, in hex.
    pub sha256: String,
}

/// A task, as the API and the events show it.
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
    /// 1 at creation, one more with every event.
    pub version: u64,
    #[serde(with = "contract::time::millis")]
    pub created_at: Timestamp,
    #[serde(with = "contract::time::millis")]
    pub updated_at: Timestamp,
}

/// What a client says of a whole task.
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

/// A task's new state with the event that tells of it.
pub type Changed = (Task, Envelope);

impl Task {
    pub fn create(owner_id: UserId, new: NewTask, now: Timestamp) -> Changed {
        Self::create_with(TaskId::new(), Vec::new(), owner_id, new, now)
    }

    /// With files, which were there before it under its id.
    pub fn create_with(
        id: TaskId,
        attachments: Vec<Attachment>,
        owner_id: UserId,
        new: NewTask,
        now: Timestamp,
    ) -> Changed {
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

    /// The task as an event of it shows it.
    pub fn shown_by(event: &Envelope) -> Result<Self, serde_json::Error> {
        Self::deserialize(&event.data["task"])
    }

    /// Whether the task exists as far as this user can tell.
    pub fn is_visible_to(&self, user: &UserId) -> bool {
        self.owner_id == *user || self.assignee_id.as_ref() == Some(user)
    }

    /// The file with this id.
    pub fn attachment(&self, id: &str) -> Option<&Attachment> {
        self.attachments.iter().find(|file| file.id.as_str() == id)
    }

    /// The task without one of its files, or `None` where it has no such file.
    pub fn detach(&self, id: &str, actor: &UserId, now: Timestamp) -> Option<Changed> {
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
        // Invariant: later versions have later times, whatever clocks do.
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
