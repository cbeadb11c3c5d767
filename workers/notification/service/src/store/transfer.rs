//! Notifications on their way from one store to another, with all that keeps them exact: each user's
//! counts, and the events that were applied and must not be again. Keys of requests stay behind.

use contract::id::{NotificationId, TaskId, UserId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::{Kind, Notice, Notification};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
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

/// One user's numbers, and whether they are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    pub user_id: UserId,
    pub sequence: u64,
    pub unread: u64,
    pub purged: u64,
    #[serde(with = "contract::time::millis::option")]
    pub deleted_at: Option<Timestamp>,
}

/// An event that was applied, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    pub event_id: String,
    #[serde(with = "contract::time::millis")]
    pub at: Timestamp,
}

impl From<Notification> for Told {
    fn from(notification: Notification) -> Self {
        let notice = notification.notice;
        Self {
            id: notice.id,
            user_id: notice.user_id,
            sequence: notification.sequence,
            read: notification.read,
            kind: notice.kind,
            task_id: notice.task_id,
            task_version: notice.task_version,
            title: notice.title,
            body: notice.body,
            actor_id: notice.actor_id,
            created_at: notice.created_at,
        }
    }
}

impl From<Told> for Notification {
    fn from(told: Told) -> Self {
        Self {
            notice: Notice {
                id: told.id,
                user_id: told.user_id,
                kind: told.kind,
                task_id: told.task_id,
                task_version: told.task_version,
                title: told.title,
                body: told.body,
                actor_id: told.actor_id,
                created_at: told.created_at,
            },
            sequence: told.sequence,
            read: told.read,
        }
    }
}
