//! Consumes `user.deleted` events: stores an erasure for each deleted user, durably, and wakes the
//! eraser.
//!
//! It must never erase anything itself: a user with a million tasks would delay every delivery behind
//! it. The broker's consumer calls it with each batch; [`crate::erasure`] does the rest.

use std::sync::Arc;

use async_trait::async_trait;
use contract::event::{EventType, UserDeleted};
use contract::id::UserId;
use events::bus::Queue;
use events::consumer::{Consumer, Handler, Outcome};
use jiff::Timestamp;
use prometheus::Registry;
use runtime::time::Clock;
use stores::StoreError;
use tokio::sync::Notify;

use crate::domain::Erasure;
use crate::store::TaskStore;

/// The queues that this worker consumes.
pub const QUEUES: [Queue; 1] = [Queue {
    name: "task.user_deleted",
    event_type: EventType::UserDeleted,
}];

pub struct DeletedUsers {
    store: Arc<dyn TaskStore>,
    clock: Arc<dyn Clock>,
    /// Notified when erasures were stored.
    wake_eraser: Arc<Notify>,
}

/// The consumer of this worker's queues. It notifies `wake_eraser` when there is something to erase.
pub fn new(
    store: Arc<dyn TaskStore>,
    clock: Arc<dyn Clock>,
    wake_eraser: Arc<Notify>,
    registry: &Registry,
) -> Consumer<DeletedUsers> {
    let handler = DeletedUsers {
        store,
        clock: clock.clone(),
        wake_eraser,
    };
    Consumer::new(handler, clock, registry)
}

#[async_trait]
impl Handler for DeletedUsers {
    type Event = UserId;

    fn queues(&self) -> &'static [Queue] {
        &QUEUES
    }

    async fn prepare(&self) -> Result<(), StoreError> {
        self.store.prepare().await
    }

    fn read(&self, _: Queue, body: &[u8]) -> Result<(Timestamp, UserId), String> {
        let deleted = UserDeleted::read(body).map_err(|why| why.to_string())?;
        Ok((deleted.at, deleted.user_id))
    }

    async fn apply(&self, users: &[UserId]) -> Result<Vec<Outcome>, StoreError> {
        let now = self.clock.now();
        let erasure = |user: &UserId| Erasure::new(user.clone(), now);
        let erasures: Vec<_> = users.iter().map(erasure).collect();
        let outcomes = self.store.note(&erasures).await?;
        self.wake_eraser.notify_one();
        Ok(outcomes)
    }
}
