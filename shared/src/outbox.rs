//! The outbox port: events that are committed with their change and not yet published.

use async_trait::async_trait;

use crate::event::Envelope;
use crate::store::StoreError;

/// A committed, unpublished event.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    /// The version of the subject that this event made.
    pub version: u64,
    pub event: Envelope,
}

/// Where committed events wait. Embedded in a document or a table of its own: the relay cannot tell.
#[async_trait]
pub trait Outbox: Send + Sync + 'static {
    /// Up to `limit` events, oldest subjects first, each subject's events in version order and
    /// from its oldest on. `older_than` leaves young ones to the fast path.
    async fn pending(
        &self,
        older_than: jiff::Timestamp,
        limit: usize,
    ) -> Result<Vec<Pending>, StoreError>;

    /// Records that these were published: keeps them in the history, then removes exactly these
    /// versions from the outbox. Safe to repeat.
    async fn mark_published(&self, published: &[Pending]) -> Result<(), StoreError>;
}
