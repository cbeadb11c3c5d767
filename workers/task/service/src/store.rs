//! The port to where tasks are kept. A task and the event of its change are one write.

pub mod files;
pub mod list;
pub mod transfer;
pub mod turns;

pub use self::list::{Filter, Key, Role, Sort};

use async_trait::async_trait;
use contract::event::Envelope;
use contract::id::TaskId;
use contract::page::{Page, PageRequest};
use events::consumer::Outcome;
use events::outbox::{Outbox, Pending};
use jiff::Timestamp;
use stores::{Idempotency, Once, Store, StoreError};

use crate::domain::{Erasure, Task};

/// Tasks with their events. Whoever stores tasks is the outbox of their events.
#[async_trait]
pub trait TaskStore: Store + Outbox + Erasures {
    /// Makes indexes and the like. Safe to repeat.
    async fn prepare(&self) -> Result<(), StoreError>;

    /// Keeps a new task with its first event and the key of its request, and gives what waits to be
    /// published. Where the owner's key has made a task within its lifetime, nothing is written:
    /// that task is given, as it was at first, whatever has become of it.
    async fn insert(
        &self,
        task: &Task,
        event: &Envelope,
        idempotency: Option<&Idempotency>,
    ) -> Result<Once<Vec<Pending>, Task>, StoreError>;

    /// The task, unless it was deleted.
    async fn get(&self, id: &TaskId) -> Result<Option<Task>, StoreError>;

    /// A user's tasks in the order of `sort`. A page costs the same at any depth.
    async fn list(
        &self,
        filter: &Filter,
        sort: Sort,
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

    /// Removes for good what was deleted before `before` and has no unpublished event: some of it,
    /// until 0 is left.
    async fn purge(&self, before: Timestamp) -> Result<u64, StoreError>;

    /// Forgets the keys of requests before `before`: some of them, until 0 is left.
    async fn forget_keys(&self, before: Timestamp) -> Result<u64, StoreError>;
}

/// Users who are gone, until their tasks are.
#[async_trait]
pub trait Erasures: Send + Sync + 'static {
    /// Notes erasures, and leaves alone those that are under way: one outcome for each.
    async fn note(&self, erasures: &[Erasure]) -> Result<Vec<Outcome>, StoreError>;

    /// The erasure that has been due for longest.
    async fn due(&self, now: Timestamp) -> Result<Option<Erasure>, StoreError>;

    /// Sets when it is due again; with `None` it is over. Changes nothing where another worker has
    /// done so since it was read.
    async fn settle(&self, erasure: &Erasure, due_at: Option<Timestamp>) -> Result<(), StoreError>;
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
