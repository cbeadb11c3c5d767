//! The port behind which notifications are kept. The consumer writes them, the HTTP side reads and
//! marks them, the live streams are woken by its hints.
//!
//! Invariants of every adapter, which the conformance suite checks: an event is applied once however
//! often and wherever in parallel it comes; a user's `unread` is exactly the number of their unread
//! notifications; their sequence numbers become visible in order, each once.

pub mod mongo;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::id::{NotificationId, UserId};
use shared::page::PageRequest;
use shared::store::StoreError;

pub use shared::consumer::Outcome;

use crate::domain::{Entry, Kind, Notification};

/// Which of a user's notifications are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filter {
    pub read: Option<bool>,
    pub kind: Option<Kind>,
}

/// Where a list goes on: behind the notification with this time and id, latest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    #[serde(with = "shared::time::millis")]
    pub created_at: Timestamp,
    pub id: String,
}

/// One user's numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counter {
    /// The last sequence number given out; 0 before the first.
    pub sequence: u64,
    pub unread: u64,
    /// Retention has removed notifications up to here: not all that follow an older number are left.
    pub purged: u64,
}

/// Where notifications are.
#[async_trait]
pub trait NotificationStore: Send + Sync + 'static {
    /// Makes indexes and the like. Safe to repeat, and beside others who do.
    async fn prepare(&self) -> Result<(), StoreError>;

    async fn ping(&self) -> Result<(), StoreError>;

    /// Applies events, each once, with everything that follows from it or not at all; durable when
    /// it returns. One outcome per entry, in order. After an error any of them may be applied:
    /// repeat it.
    async fn apply(&self, entries: &[Entry], now: Timestamp) -> Result<Vec<Outcome>, StoreError>;

    /// One more than the page's limit where there are more; latest first.
    async fn list(
        &self,
        user: &UserId,
        filter: Filter,
        page: &PageRequest<Key>,
    ) -> Result<Vec<Notification>, StoreError>;

    async fn get(
        &self,
        user: &UserId,
        id: &NotificationId,
    ) -> Result<Option<Notification>, StoreError>;

    /// Marks one, counts it, and returns it as it then is.
    async fn set_read(
        &self,
        user: &UserId,
        id: &NotificationId,
        read: bool,
    ) -> Result<Option<Notification>, StoreError>;

    /// Marks all that are there, and returns how many were unread.
    async fn set_all_read(&self, user: &UserId) -> Result<u64, StoreError>;

    /// Whether there was one to delete. It never comes back: its event stays applied.
    async fn delete(&self, user: &UserId, id: &NotificationId) -> Result<bool, StoreError>;

    async fn counter(&self, user: &UserId) -> Result<Counter, StoreError>;

    /// Those behind a sequence number, in sequence, at most `limit`.
    async fn since(
        &self,
        user: &UserId,
        sequence: u64,
        limit: usize,
    ) -> Result<Vec<Notification>, StoreError>;

    /// Starts to tell who got something new, whichever replica applied it.
    async fn hints(&self) -> Result<Box<dyn Hints>, StoreError>;

    /// Removes what is beyond its retention, with its counts; at most `limit` at a time. Returns how
    /// many.
    async fn purge(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError>;
}

/// Who got something new. A hint may be late, doubled or missing: the store is the truth.
#[async_trait]
pub trait Hints: Send {
    async fn next(&mut self) -> Result<UserId, StoreError>;
}
