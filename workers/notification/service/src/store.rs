//! The port behind which notifications are kept. The consumer writes them, the HTTP side reads and
//! marks them, the live streams read what is new.
//!
//! Invariants of every adapter, which the conformance suite checks: an event is applied once however
//! often and wherever in parallel it comes; a user's `unread` is exactly the number of their unread
//! notifications; their sequence numbers become visible in order, each once; who was deleted is told
//! nothing any more, whatever comes later or at the same moment.

pub mod transfer;

use async_trait::async_trait;
use contract::id::{NotificationId, UserId};
use contract::page::PageRequest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stores::{Idempotency, Once, Store, StoreError};

pub use events::consumer::Outcome;

use crate::domain::{Event, Kind, Notification};

/// Which of a user's notifications are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filter {
    pub read: Option<bool>,
    pub kind: Option<Kind>,
}

/// Where a list goes on: behind the notification with this time and id, latest first. All filters
/// share one order, and the notification need not be there any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    #[serde(with = "contract::time::millis")]
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
    /// The user is gone.
    pub deleted: bool,
}

/// The states in which a notification may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    pub read: bool,
    pub unread: bool,
}

impl Expected {
    pub const ANY: Self = Self {
        read: true,
        unread: true,
    };

    pub fn includes(self, read: bool) -> bool {
        if read { self.read } else { self.unread }
    }
}

/// What became of a change to one notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is this now; or was, where it was deleted.
    Done(Notification),
    /// It is in another state than expected, and stays in it.
    Unexpected(Notification),
    Missing,
}

/// Where notifications are.
#[async_trait]
pub trait NotificationStore: Store {
    /// Makes indexes and the like. Safe to repeat, and beside others who do.
    async fn prepare(&self) -> Result<(), StoreError>;

    /// Applies events, each once, with everything that follows from it or not at all; durable when
    /// it returns. One outcome per event, in order. After an error any of them may be applied:
    /// repeat it. Deleted users are remembered, their unread count is 0 and [`Self::forget`] has to do.
    async fn apply(&self, events: &[Event], now: Timestamp) -> Result<Vec<Outcome>, StoreError>;

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

    /// Marks one, and counts it.
    async fn set_read(
        &self,
        user: &UserId,
        id: &NotificationId,
        read: bool,
        expected: Expected,
    ) -> Result<Change, StoreError>;

    /// Marks all that are there, and returns how many were unread. With a key that is known it goes
    /// on where the first call stopped, and returns what both marked; nothing is marked twice.
    async fn set_all_read(
        &self,
        user: &UserId,
        key: Option<&Idempotency>,
        now: Timestamp,
    ) -> Result<Once<u64, u64>, StoreError>;

    /// Deletes one. It never comes back: its event stays applied.
    async fn delete(
        &self,
        user: &UserId,
        id: &NotificationId,
        expected: Expected,
    ) -> Result<Change, StoreError>;

    async fn counter(&self, user: &UserId) -> Result<Counter, StoreError>;

    /// Those behind a sequence number, in sequence, at most `limit`.
    async fn since(
        &self,
        user: &UserId,
        sequence: u64,
        limit: usize,
    ) -> Result<Vec<Notification>, StoreError>;

    /// Removes what is beyond its retention, with its counts; at most `limit` at a time. Returns how
    /// many.
    async fn purge(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError>;

    /// Removes notifications of one deleted user, at most `limit`. Whether there was such a user:
    /// call it again.
    async fn forget(&self, limit: usize) -> Result<bool, StoreError>;
}
