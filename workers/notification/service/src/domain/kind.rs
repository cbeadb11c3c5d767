//! What a notification is about. Pure; used wherever notifications are made, kept or read.

use contract::event::EventType;
use serde::{Deserialize, Serialize};

/// What happened to the task. It is the `type` of a notification: the event's type without its
/// version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    #[serde(rename = "task.created")]
    Created,
    #[serde(rename = "task.updated")]
    Updated,
    #[serde(rename = "task.deleted")]
    Deleted,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Self::Created, Self::Updated, Self::Deleted];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "task.created",
            Self::Updated => "task.updated",
            Self::Deleted => "task.deleted",
        }
    }

    /// What an event of this type says about a task; `None` when it is not about a task.
    pub fn of(event_type: EventType) -> Option<Self> {
        match event_type {
            EventType::TaskCreated => Some(Self::Created),
            EventType::TaskUpdated => Some(Self::Updated),
            EventType::TaskDeleted => Some(Self::Deleted),
            EventType::UserDeleted => None,
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}
