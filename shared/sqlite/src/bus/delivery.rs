//! What was delivered from each queue, in memory.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use events::bus::BusError;
use stores::StoreError;
use tokio::sync::Notify;

/// The state that subscriptions and publishers share.
#[derive(Default)]
pub(super) struct DeliveryState {
    queues: Mutex<HashMap<&'static str, Progress>>,
    /// Notified when there may be something to deliver.
    pub(super) arrived: Notify,
}

/// The progress of a queue's delivery.
#[derive(Default)]
pub(super) struct Progress {
    /// Every message up to this id was delivered at least once.
    pub(super) delivered: i64,
    /// Messages that were delivered and put back; they are delivered before anything else.
    pub(super) put_back: BTreeSet<i64>,
}

impl DeliveryState {
    pub(super) fn queues(&self) -> MutexGuard<'_, HashMap<&'static str, Progress>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn unavailable(error: StoreError) -> BusError {
    BusError::Unavailable(error.into())
}
