//! The port to where tasks are kept. A task and the event of its change are one write.

pub mod mongo;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::event::Envelope;
use shared::id::{TaskId, UserId};
use shared::outbox::{Outbox, Pending};
use shared::page::{Page, PageRequest};
use shared::store::StoreError;

use crate::domain::{Priority, Status, Task};

/// Tasks with their events. Whoever stores tasks is the outbox of their events.
#[async_trait]
pub trait TaskStore: Outbox {
    /// Makes indexes and the like. Safe to repeat.
    async fn prepare(&self) -> Result<(), StoreError>;

    /// Whether the store takes writes now, as far as a look can tell.
    async fn ready(&self) -> Result<(), StoreError>;

    /// Keeps a new task with its first event. Gives what waits to be published.
    async fn insert(&self, task: &Task, event: &Envelope) -> Result<Vec<Pending>, StoreError>;

    /// The task, unless it was deleted.
    async fn get(&self, id: &TaskId) -> Result<Option<Task>, StoreError>;

    /// A user's tasks, newest first.
    async fn list(
        &self,
        filter: &Filter,
        page: &PageRequest<Key>,
    ) -> Result<Page<Task>, StoreError>;

    /// Replaces the version before `task`'s with `task`, together with the event.
    async fn update(&self, task: &Task, event: &Envelope) -> Result<Written, StoreError>;

    /// Ends the task: `task` is its last version.
    async fn delete(&self, task: &Task, event: &Envelope) -> Result<Written, StoreError>;

    /// A task's events in version order, published or not, behind version `after`.
    async fn history(
        &self,
        id: &TaskId,
        page: &PageRequest<u64>,
    ) -> Result<Page<Envelope>, StoreError>;

    /// Removes for good what was deleted before `before` and has no unpublished event.
    async fn purge(&self, before: Timestamp) -> Result<u64, StoreError>;
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq)]
pub enum Written {
    /// Durable; all that waits to be published for this task, in version order.
    Done(Vec<Pending>),
    /// Another change came first, or the task is gone. Nothing was written.
    Stale,
    /// Too many of its events wait to be published. Nothing was written.
    Full,
}

/// The place of a task in its list: creation time in milliseconds, and id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key(pub i64, pub String);

impl Key {
    pub fn of(task: &Task) -> Self {
        Self(
            task.created_at.as_millisecond(),
            task.id.as_str().to_owned(),
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Owner,
    Assignee,
}

/// Which tasks a list shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Owner or assignee, where `role` does not say which.
    pub user: UserId,
    pub role: Option<Role>,
    pub status: Option<Status>,
    pub priority: Option<Priority>,
    pub tag: Option<String>,
}

impl Filter {
    /// All of a user's tasks.
    pub fn of(user: UserId) -> Self {
        Self {
            user,
            role: None,
            status: None,
            priority: None,
            tag: None,
        }
    }
}
