//! The port to the store of tasks.
//!
//! A task and the event of its change are one write; no adapter may store one without the other. The
//! handlers, the eraser and the upkeep call the port. The packages `tasks-mongo` and `tasks-sqlite`
//! implement it.

pub mod files;
pub mod list;
pub mod permits;
pub mod transfer;

pub use self::list::{Cursor, Filter, Role, Sort};

use async_trait::async_trait;
use contract::event::Envelope;
use contract::id::TaskId;
use contract::page::{Page, PageRequest};
use events::consumer::Outcome;
use events::outbox::{Outbox, Pending};
use jiff::Timestamp;
use stores::{Idempotency, Once, Store, StoreError};

use crate::domain::{Erasure, Task};

/// Tasks with their events. A store of tasks is also the outbox of their events.
#[async_trait]
pub trait TaskStore: Store + Outbox + Erasures {
    /// Creates indexes and whatever else the store needs. Safe to repeat.
    async fn prepare(&self) -> Result<(), StoreError>;

    /// Stores a new task with its first event and the idempotency key of its request, and returns the
    /// events to publish. If the owner's key created a task within its lifetime, nothing is written
    /// and that task is returned as it was created, whatever happened to it since.
    async fn insert(
        &self,
        task: &Task,
        event: &Envelope,
        idempotency: Option<&Idempotency>,
    ) -> Result<Once<Vec<Pending>, Task>, StoreError>;

    /// The task; `None` if it does not exist or was deleted.
    async fn get(&self, id: &TaskId) -> Result<Option<Task>, StoreError>;

    /// A page of a user's tasks in the order of `sort`. It costs the same at any depth.
    async fn list(
        &self,
        filter: &Filter,
        sort: Sort,
        page: &PageRequest<Cursor>,
    ) -> Result<Page<Task>, StoreError>;

    /// Replaces the version just before `task` with `task`, and stores the event.
    async fn update(&self, task: &Task, event: &Envelope) -> Result<WriteOutcome, StoreError>;

    /// Deletes the task, and stores the event; `task` is its last version.
    async fn delete(&self, task: &Task, event: &Envelope) -> Result<WriteOutcome, StoreError>;

    /// A page of the task's events in version order, published or not, after the version in `page`.
    async fn history(
        &self,
        id: &TaskId,
        page: &PageRequest<u64>,
    ) -> Result<Page<Envelope>, StoreError>;

    /// Permanently removes some of the tasks that were deleted before `before` and have no unpublished
    /// event. Returns how many: call it until it returns 0.
    async fn purge(&self, before: Timestamp) -> Result<u64, StoreError>;

    /// Forgets some of the idempotency keys of requests made before `before`. Returns how many: call
    /// it until it returns 0.
    async fn forget_keys(&self, before: Timestamp) -> Result<u64, StoreError>;
}

/// Deleted users whose tasks are being erased.
#[async_trait]
pub trait Erasures: Send + Sync + 'static {
    /// Stores new erasures; an erasure under way stays as it is. Returns one outcome for each.
    async fn note(&self, erasures: &[Erasure]) -> Result<Vec<Outcome>, StoreError>;

    /// The erasure that has been due the longest.
    async fn due(&self, now: Timestamp) -> Result<Option<Erasure>, StoreError>;

    /// Sets when the erasure is due next; `None` ends it. Changes nothing if another worker has
    /// rescheduled it since `erasure` was read.
    async fn reschedule(
        &self,
        erasure: &Erasure,
        due_at: Option<Timestamp>,
    ) -> Result<(), StoreError>;
}

/// The outcome of a change.
#[derive(Debug, Clone, PartialEq)]
pub enum WriteOutcome {
    /// The change is durable. Carries the task's unpublished events in version order, or nothing if
    /// there are too many for a hint.
    Done(Vec<Pending>),
    /// Another change came first, or the task was deleted. Nothing was written.
    Stale,
    /// The task has too many unpublished events. Nothing was written.
    Full,
}
