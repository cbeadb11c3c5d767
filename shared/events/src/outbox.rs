//! The outbox port: events that are committed with their change and not yet published.

use std::time::Duration;

use async_trait::async_trait;
use contract::event::Envelope;
use jiff::Timestamp;
use stores::StoreError;

/// A committed, unpublished event.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    /// The version of its subject that this event describes.
    pub version: u64,
    pub event: Envelope,
}

/// The size of an outbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Subjects with unpublished events, counted up to a bound of the adapter's choice.
    pub subjects: u64,
    /// The time of the oldest unpublished event.
    pub oldest: Option<Timestamp>,
}

/// Where committed events wait. The relay does not know whether that is inside their documents or in a table.
#[async_trait]
pub trait Outbox: Send + Sync + 'static {
    /// Reads up to `limit` events that are older than `older_than`, or fewer if they are large: the oldest
    /// subjects first, and each subject's events in version order, beginning with its first unpublished one.
    /// Empty only if there is none.
    async fn pending(
        &self,
        older_than: Timestamp,
        limit: usize,
    ) -> Result<Vec<Pending>, StoreError>;

    /// Records that events were published: keeps them in the history, then removes exactly these versions
    /// from the outbox. Safe to repeat.
    async fn mark_published(&self, published: &[Pending]) -> Result<(), StoreError>;

    /// Gives `holder` the sweep for the next `hold`, unless another holder has it: several sweepers would
    /// publish the same events. Of the processes that share an outbox, one gets true at a time; a process
    /// with an outbox of its own always does.
    async fn claim_sweep(&self, _holder: &str, _hold: Duration) -> Result<bool, StoreError> {
        Ok(true)
    }

    /// The size of the outbox. It is asked every second, so it must be cheap.
    async fn backlog(&self) -> Result<Backlog, StoreError>;
}
