//! The outbox port: events that are committed with their change and not yet published.

use std::time::Duration;

use async_trait::async_trait;
use contract::event::Envelope;
use jiff::Timestamp;
use stores::StoreError;

/// A committed, unpublished event.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    /// The version of the subject that this event made.
    pub version: u64,
    pub event: Envelope,
}

/// How much waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Subjects with unpublished events, counted up to a bound of the adapter's choice.
    pub subjects: u64,
    /// The time of the oldest unpublished event.
    pub oldest: Option<Timestamp>,
}

/// Where committed events wait. Embedded in a document or a table of its own: the relay cannot tell.
#[async_trait]
pub trait Outbox: Send + Sync + 'static {
    /// Up to `limit` events (fewer where they are large), oldest subjects first, each subject's
    /// events in version order and from its oldest on. `older_than` leaves young ones to the fast
    /// path. Empty only when there is none.
    async fn pending(
        &self,
        older_than: Timestamp,
        limit: usize,
    ) -> Result<Vec<Pending>, StoreError>;

    /// Records that these were published: keeps them in the history, then removes exactly these
    /// versions from the outbox. Safe to repeat.
    async fn mark_published(&self, published: &[Pending]) -> Result<(), StoreError>;

    /// Makes `holder` the one who sweeps for the next `hold`, unless another one is: several at once
    /// would publish the same events. Of processes that share an outbox one is told true; a process
    /// that has its outbox to itself, always.
    async fn claim_sweep(&self, _holder: &str, _hold: Duration) -> Result<bool, StoreError> {
        Ok(true)
    }

    /// How much waits, cheaply: it is asked every second.
    async fn backlog(&self) -> Result<Backlog, StoreError>;
}
