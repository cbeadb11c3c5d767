//! What moves from one store to another: notifications, each user's counts, and the ids of applied
//! events, which must not be applied again. Idempotency keys are not moved. Exporting and importing
//! stores use these types; their member names are the format of an export.

use contract::id::{NotificationId, TaskId, UserId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::{Kind, Notification, NotificationContent};

/// A notification with its user and its sequence number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationRecord {
    pub id: NotificationId,
    user_id: UserId,
    sequence: u64,
    read: bool,
    kind: Kind,
    task_id: TaskId,
    task_version: u64,
    title: String,
    body: String,
    actor_id: UserId,
    #[serde(with = "contract::time::millis")]
    created_at: Timestamp,
}

/// One user's counts, and when the user was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterRecord {
    pub user_id: UserId,
    pub sequence: u64,
    pub unread: u64,
    pub purged: u64,
    #[serde(with = "contract::time::millis::option")]
    pub deleted_at: Option<Timestamp>,
}

/// The id of an event that was applied, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedEvent {
    pub event_id: String,
    #[serde(with = "contract::time::millis")]
    pub at: Timestamp,
}

impl From<Notification> for NotificationRecord {
    fn from(notification: Notification) -> Self {
        let content = notification.content;
        Self {
            id: content.id,
            user_id: content.user_id,
            sequence: notification.sequence,
            read: notification.read,
            kind: content.kind,
            task_id: content.task_id,
            task_version: content.task_version,
            title: content.title,
            body: content.body,
            actor_id: content.actor_id,
            created_at: content.created_at,
        }
    }
}

impl From<NotificationRecord> for Notification {
    fn from(record: NotificationRecord) -> Self {
        Self {
            content: NotificationContent {
                id: record.id,
                user_id: record.user_id,
                kind: record.kind,
                task_id: record.task_id,
                task_version: record.task_version,
                title: record.title,
                body: record.body,
                actor_id: record.actor_id,
                created_at: record.created_at,
            },
            sequence: record.sequence,
            read: record.read,
        }
    }
}
