//! The port for storing notifications. The consumer writes them, the HTTP side reads and marks them,
//! and live streams read the new ones.
//!
//! Invariants of every adapter, which the conformance suite checks:
//! - An event is applied once, even when it is delivered repeatedly and in parallel.
//! - A user's `unread` is exactly the number of their unread notifications.
//! - A user's sequence numbers become visible in order, each once.
//! - A deleted user gets no more notifications, not even from an event that is applied at the same
//!   moment.

pub mod read_all;
pub mod transfer;

use async_trait::async_trait;
use contract::id::{NotificationId, UserId};
use contract::page::PageRequest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stores::{Idempotency, Once, Store, StoreError};

pub use events::consumer::Outcome;

use crate::domain::{Event, Kind, Notification};

/// Which of a user's notifications to list; `None` means any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filter {
    pub read: Option<bool>,
    pub kind: Option<Kind>,
}

/// Where the next page of a list begins: after the notification with this time and id, latest first.
/// It fits every filter, because all lists have the same order, and it stays valid when the
/// notification is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    #[serde(with = "contract::time::millis")]
    pub created_at: Timestamp,
    pub id: String,
}

/// One user's counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counter {
    /// The last sequence number assigned; 0 before the first.
    pub sequence: u64,
    pub unread: u64,
    /// The highest sequence number that retention has removed. After a lower number, some
    /// notifications are missing.
    pub purged: u64,
    /// The user was deleted.
    pub deleted: bool,
}

/// The states in which the caller allows a notification to be changed.
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

/// The result of a change to one notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The notification after the change; after a deletion, as it was before.
    Done(Notification),
    /// The notification is in a state that was not expected, and was not changed.
    Unexpected(Notification),
    Missing,
}

/// Stores notifications.
#[async_trait]
pub trait NotificationStore: Store {
    /// Creates indexes and whatever else the store needs. Safe to repeat, also in parallel.
    async fn prepare(&self) -> Result<(), StoreError>;

    /// Applies events, each once and atomically with all its notifications and counts. Durable when
    /// it returns. One outcome for each event, in order. After an error, any of the events may have
    /// been applied: call it again with the same events. A deleted user stays recorded as such, with
    /// an unread count of 0; [`Self::forget`] then removes their notifications.
    async fn apply(&self, events: &[Event], now: Timestamp) -> Result<Vec<Outcome>, StoreError>;

    /// One page, latest first. When there is a next page, one notification more than the limit.
    async fn list(
        &self,
        user: &UserId,
        filter: Filter,
        page: &PageRequest<Cursor>,
    ) -> Result<Vec<Notification>, StoreError>;

    async fn get(
        &self,
        user: &UserId,
        id: &NotificationId,
    ) -> Result<Option<Notification>, StoreError>;

    /// Marks one notification as read or unread, and adjusts the unread count.
    async fn set_read(
        &self,
        user: &UserId,
        id: &NotificationId,
        read: bool,
        expected: Expected,
    ) -> Result<Change, StoreError>;

    /// Marks all existing notifications as read, and returns how many were unread. With a key that
    /// was used before, it continues where the first call stopped and returns how many both calls
    /// marked together.
    async fn set_all_read(
        &self,
        user: &UserId,
        key: Option<&Idempotency>,
        now: Timestamp,
    ) -> Result<Once<u64, u64>, StoreError>;

    /// Deletes one notification. It never comes back, because its event stays applied.
    async fn delete(
        &self,
        user: &UserId,
        id: &NotificationId,
        expected: Expected,
    ) -> Result<Change, StoreError>;

    async fn counter(&self, user: &UserId) -> Result<Counter, StoreError>;

    /// The notifications after a sequence number, in sequence, at most `limit`.
    async fn since(
        &self,
        user: &UserId,
        sequence: u64,
        limit: usize,
    ) -> Result<Vec<Notification>, StoreError>;

    /// Removes at most `limit` notifications whose retention is over, and adjusts the counts. Returns
    /// how many it removed.
    async fn purge(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError>;

    /// Removes at most `limit` notifications of one deleted user. Returns whether there was such a
    /// user; if so, call it again.
    async fn forget(&self, limit: usize) -> Result<bool, StoreError>;
}
