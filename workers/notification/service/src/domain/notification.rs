//! A notification, and who gets one. Pure: the consumer calls it, the stores keep what it makes.

use contract::id::{NotificationId, TaskId, UserId};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::event::TaskEvent;
use super::kind::Kind;
use super::text;

/// How long a notification is kept, counted from its event's time.
pub const RETENTION: SignedDuration = SignedDuration::from_hours(90 * 24);
/// How long an applied event is remembered, counted from when it was applied. Longer than
/// [`RETENTION`]: an event that is redelivered after that is too old to notify anybody.
pub const MEMORY: SignedDuration = SignedDuration::from_hours(91 * 24);

/// What one notification says, and to whom. It never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotificationContent {
    pub id: NotificationId,
    #[serde(skip)]
    pub user_id: UserId,
    #[serde(rename = "type")]
    pub kind: Kind,
    pub task_id: TaskId,
    pub task_version: u64,
    pub title: String,
    pub body: String,
    pub actor_id: UserId,
    /// The event's time. A task's event times strictly increase with its version, so sorting by time
    /// also sorts by version.
    #[serde(with = "contract::time::millis")]
    pub created_at: Timestamp,
}

/// A notification as the store holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notification {
    #[serde(flatten)]
    pub content: NotificationContent,
    /// Its number among the user's notifications, in the order in which they were committed.
    #[serde(skip)]
    pub sequence: u64,
    pub read: bool,
}

impl Notification {
    pub fn version(&self) -> u64 {
        Self::version_of(self.read)
    }

    /// Only `read` ever changes, so it is the version.
    pub fn version_of(read: bool) -> u64 {
        u64::from(read)
    }
}

/// An event as the store applies it: once, no matter how often it is delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Something happened to a task: users are notified.
    Task(TaskNotifications),
    /// A user was deleted: nothing of theirs is kept, and they get no more notifications.
    UserDeleted(UserId),
}

/// The notifications that one task event causes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskNotifications {
    pub event_id: String,
    pub notifications: Vec<NotificationContent>,
}

impl TaskNotifications {
    /// One notification for each recipient. An event older than [`RETENTION`] has none, so a purged
    /// notification does not come back.
    pub fn new(event: &TaskEvent, now: Timestamp) -> Self {
        let expired = now.duration_since(event.time) > RETENTION;
        let users = if expired {
            Vec::new()
        } else {
            recipients(event)
        };
        let notifications = users.into_iter().map(|user_id| NotificationContent {
            id: NotificationId::new(),
            user_id: user_id.clone(),
            kind: event.kind,
            task_id: event.task_id.clone(),
            task_version: event.version,
            title: text::title(event),
            body: text::body(event, user_id),
            actor_id: event.actor_id.clone(),
            created_at: event.time,
        });
        Self {
            event_id: event.id.clone(),
            notifications: notifications.collect(),
        }
    }
}

/// The owner and the assignee. When they are two, the one who acted is left out.
fn recipients(event: &TaskEvent) -> Vec<&UserId> {
    let mut users = vec![&event.owner_id];
    users.extend(event.assignee_id.iter().filter(|id| **id != event.owner_id));
    if users.len() > 1 {
        users.retain(|id| **id != event.actor_id);
    }
    users
}
