//! A notification, and who gets one.

use contract::id::{NotificationId, TaskId, UserId};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::event::TaskEvent;
use super::kind::Kind;
use super::text;

/// How long a notification is kept, from its event's time.
pub const RETENTION: SignedDuration = SignedDuration::from_hours(90 * 24);
/// How long an applied event is remembered, from when it was applied. Longer than [`RETENTION`]: an
/// event that comes again after it was forgotten is too old to notify anybody.
pub const MEMORY: SignedDuration = SignedDuration::from_hours(91 * 24);

/// What one user is told about one event. Never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice {
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
    /// The event's time. Those of one task strictly increase with its version, so sorting by time
    /// is sorting by version.
    #[serde(with = "contract::time::millis")]
    pub created_at: Timestamp,
}

/// A notice that the store holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notification {
    #[serde(flatten)]
    pub notice: Notice,
    /// The user's own numbering, in the order in which notices were committed.
    #[serde(skip)]
    pub sequence: u64,
    pub read: bool,
}

impl Notification {
    pub fn version(&self) -> u64 {
        Self::version_of(self.read)
    }

    /// `read` is all that ever changes, so it is the version.
    pub fn version_of(read: bool) -> u64 {
        u64::from(read)
    }
}

/// An event as the store applies it: once, however often it is delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Something happened to a task: people are told.
    Task(Entry),
    /// Somebody is gone: nothing of theirs is kept, and they are told nothing any more.
    UserDeleted(UserId),
}

/// What one event of a task tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub event_id: String,
    pub notices: Vec<Notice>,
}

impl Entry {
    /// Tells everybody concerned. An event older than [`RETENTION`] tells nobody, so what was
    /// purged does not come back.
    pub fn new(event: &TaskEvent, now: Timestamp) -> Self {
        let expired = now.duration_since(event.time) > RETENTION;
        let people = if expired {
            Vec::new()
        } else {
            recipients(event)
        };
        let notices = people.into_iter().map(|user_id| Notice {
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
            notices: notices.collect(),
        }
    }
}

/// Owner and assignee, without the one who acted when there is another.
fn recipients(event: &TaskEvent) -> Vec<&UserId> {
    let mut people = vec![&event.owner_id];
    people.extend(event.assignee_id.iter().filter(|id| **id != event.owner_id));
    if people.len() > 1 {
        people.retain(|id| **id != event.actor_id);
    }
    people
}
