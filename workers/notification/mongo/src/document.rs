//! The documents of notifications and counters in MongoDB.

use bson::DateTime;
use contract::id::{NotificationId, TaskId, UserId};
use mongo::{from_bson, to_bson};
use notifications::domain::{Kind, Notification, NotificationContent, RETENTION};
use notifications::store::Counter;
use serde::{Deserialize, Serialize};

/// The version of these documents' format.
pub(super) const SCHEMA: i32 = 1;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct NotificationDocument {
    #[serde(rename = "_id")]
    pub(super) id: NotificationId,
    pub(super) user_id: UserId,
    pub(super) sequence: i64,
    event_id: String,
    #[serde(rename = "type")]
    kind: Kind,
    task_id: TaskId,
    task_version: i64,
    title: String,
    body: String,
    actor_id: UserId,
    pub(super) read: bool,
    created_at: DateTime,
    /// No TTL index uses it: the purge removes the notification and adjusts the counts together.
    expires_at: DateTime,
    schema: i32,
}

impl NotificationDocument {
    pub(super) fn new(event_id: &str, content: &NotificationContent, sequence: i64) -> Self {
        // Out of range only beyond the last representable time.
        let expires_at = content.created_at.checked_add(RETENTION);
        Self {
            id: content.id.clone(),
            user_id: content.user_id.clone(),
            sequence,
            event_id: event_id.to_owned(),
            kind: content.kind,
            task_id: content.task_id.clone(),
            // The event parser refuses larger versions.
            task_version: content.task_version.cast_signed(),
            title: content.title.clone(),
            body: content.body.clone(),
            actor_id: content.actor_id.clone(),
            read: false,
            created_at: to_bson(content.created_at),
            expires_at: to_bson(expires_at.unwrap_or(jiff::Timestamp::MAX)),
            schema: SCHEMA,
        }
    }
}

impl From<NotificationDocument> for Notification {
    fn from(document: NotificationDocument) -> Self {
        Self {
            content: NotificationContent {
                id: document.id,
                user_id: document.user_id,
                kind: document.kind,
                task_id: document.task_id,
                task_version: document.task_version.unsigned_abs(),
                title: document.title,
                body: document.body,
                actor_id: document.actor_id,
                created_at: from_bson(document.created_at),
            },
            sequence: document.sequence.unsigned_abs(),
            read: document.read,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct CounterDocument {
    #[serde(rename = "_id")]
    pub(super) id: UserId,
    pub(super) sequence: i64,
    unread: i64,
    purged: i64,
    /// The tombstone. It stays, because a task event may arrive at any time. Beside it is
    /// `forgetting`: the sequence number up to which the user's notifications are removed. It is unset
    /// once all are.
    pub(super) deleted_at: Option<DateTime>,
}

impl From<CounterDocument> for Counter {
    fn from(document: CounterDocument) -> Self {
        Self {
            sequence: document.sequence.unsigned_abs(),
            unread: u64::try_from(document.unread).unwrap_or_default(),
            purged: document.purged.unsigned_abs(),
            deleted: document.deleted_at.is_some(),
        }
    }
}
