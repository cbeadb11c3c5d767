//! Reads a task's event from the bytes of a message, strictly: what does not say exactly what its
//! schema promises is poison, and never a guess.

use jiff::Timestamp;
use serde::Deserialize;
use shared::event::{Envelope, EventType};
use shared::id::{TaskId, UserId};

use super::Kind;

/// No event of ours is larger.
const MAX_BYTES: usize = 256 << 10;
/// What a reason may take in the header of a dead letter.
const MAX_REASON_CHARS: usize = 300;

/// Why a message can never be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Poison {
    #[error("it has {0} bytes, more than {MAX_BYTES}")]
    TooLarge(usize),
    #[error("it is not an event this version knows: {0}")]
    Envelope(String),
    #[error("its data is not what `{kind}` promises: {why}", kind = .0.as_str(), why = .1)]
    Data(EventType, String),
    #[error("it is `{}` and came through the queue of `{}`", .found.as_str(), .queue.as_str())]
    WrongQueue { found: EventType, queue: EventType },
    #[error("it came through a queue this version does not know")]
    UnknownQueue,
    #[error("its id, subject and data do not name one task and version")]
    Inconsistent,
}

/// What happened to a task, as far as notifications tell it.
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

/// `data` of every task event. Members that are not read here may come and go within `v1`.
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
    /// Reads a message that came through the queue of this type.
    pub fn parse(body: &[u8], queue: EventType) -> Result<Self, Poison> {
        if body.len() > MAX_BYTES {
            return Err(Poison::TooLarge(body.len()));
        }
        let envelope: Envelope =
            serde_json::from_slice(body).map_err(|why| Poison::Envelope(short(&why)))?;
        let event_type = envelope.event_type;
        if event_type != queue {
            return Err(Poison::WrongQueue {
                found: event_type,
                queue,
            });
        }
        let wrong = |why: &str| Poison::Data(event_type, why.to_owned());
        let data = Data::deserialize(&envelope.data)
            .map_err(|why| Poison::Data(event_type, short(&why)))?;
        let task = data.task;
        let one =
            envelope.subject == task.id && envelope.id == format!("{}:{}", task.id, task.version);
        // Versions are kept as signed 64-bit numbers by every store.
        if !one || task.version == 0 || i64::try_from(task.version).is_err() {
            return Err(Poison::Inconsistent);
        }
        let user = |text: &str, name| UserId::parse(text).ok_or_else(|| wrong(name));
        Ok(Self {
            kind: event_type.into(),
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

/// A parser's complaint, cut: it may quote what was sent.
fn short(why: &serde_json::Error) -> String {
    why.to_string().chars().take(MAX_REASON_CHARS).collect()
}
