//! Parses a task event from the bytes of a message. Strict: a message that does not match its schema
//! is poison; nothing is ever guessed. The consumer calls it.

use contract::event::{Envelope, EventType, Poison};
use contract::id::{TaskId, UserId};
use jiff::Timestamp;
use serde::Deserialize;

use super::kind::Kind;

/// What happened to a task: as much of the event as notifications need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskEvent {
    /// `task:version`
    pub id: String,
    pub kind: Kind,
    pub time: Timestamp,
    pub task_id: TaskId,
    pub version: u64,
    pub title: String,
    pub status: Option<String>,
    pub priority: Option<String>,
    pub owner_id: UserId,
    pub assignee_id: Option<UserId>,
    pub actor_id: UserId,
    /// The names of the task's members that this event changed.
    pub changed: Vec<String>,
}

/// `data` of every task event. Other members may be added or removed within `v1`.
#[derive(Deserialize)]
struct Data {
    task: Snapshot,
    #[serde(default)]
    changed: Vec<String>,
    actor_id: String,
}

#[derive(Deserialize)]
struct Snapshot {
    id: String,
    version: u64,
    title: String,
    status: Option<String>,
    priority: Option<String>,
    owner_id: String,
    assignee_id: Option<String>,
}

impl TaskEvent {
    /// Parses a message that came through the queue of this event type.
    pub fn parse(body: &[u8], queue: EventType) -> Result<Self, Poison> {
        let envelope = Envelope::read(body, queue)?;
        let wrong = |why: &str| Poison::Data(queue, why.to_owned());
        let data = Data::deserialize(&envelope.data).map_err(|why| wrong(&why.to_string()))?;
        let task = data.task;
        let consistent =
            envelope.subject == task.id && envelope.id == format!("{}:{}", task.id, task.version);
        // Every store keeps versions as signed 64-bit numbers.
        if !consistent || task.version == 0 || i64::try_from(task.version).is_err() {
            return Err(Poison::Inconsistent);
        }
        let user = |text: &str, name| UserId::parse(text).ok_or_else(|| wrong(name));
        Ok(Self {
            kind: Kind::of(queue).ok_or_else(|| wrong("it is not about a task"))?,
            time: envelope.time,
            task_id: TaskId::parse(&task.id).ok_or_else(|| wrong("task.id is not an id"))?,
            version: task.version,
            title: task.title,
            status: task.status,
            priority: task.priority,
            owner_id: user(&task.owner_id, "task.owner_id is not an id")?,
            assignee_id: task
                .assignee_id
                .map(|id| user(&id, "task.assignee_id is not an id"))
                .transpose()?,
            actor_id: user(&data.actor_id, "actor_id is not an id")?,
            changed: data.changed,
            id: envelope.id,
        })
    }
}
