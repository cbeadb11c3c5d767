//! How notifications and counters look in MongoDB.

use bson::DateTime;
use contract::id::{NotificationId, TaskId, UserId};
use mongo::{from_bson, to_bson};
use notifications::domain::{Kind, Notice, Notification, RETENTION};
use notifications::store::Counter;
use serde::{Deserialize, Serialize};

/// The version of these shapes.
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
    /// No TTL index: the purge step removes it together with its count.
    expires_at: DateTime,
    schema: i32,
}

impl NotificationDocument {
    pub(super) fn new(event_id: &str, notice: &Notice, sequence: i64) -> Self {
        // Out of range only at the end of time.
        let expires_at = notice.created_at.checked_add(RETENTION);
        Self {
            id: notice.id.clone(),
            user_id: notice.user_id.clone(),
            sequence,
            event_id: event_id.to_owned(),
            kind: notice.kind,
            task_id: notice.task_id.clone(),
            // The parser of events lets nothing larger pass.
            task_version: notice.task_version.cast_signed(),
            title: notice.title.clone(),
            body: notice.body.clone(),
            actor_id: notice.actor_id.clone(),
            read: false,
            created_at: to_bson(notice.created_at),
            expires_at: to_bson(expires_at.unwrap_or(jiff::Timestamp::MAX)),
            schema: SCHEMA,
        }
    }
}

impl From<NotificationDocument> for Notification {
    fn from(document: NotificationDocument) -> Self {
        Self {
            notice: Notice {
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
    /// The tombstone. It stays: a task's event may come at any time. With it goes `forgetting`, up
    /// to where the notifications are removed, until all are.
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
