//! Refills queues that were deleted, from the history of events.
//!
//! A process that is about to declare a missing queue first records the loss in another queue
//! ([`LOSSES`]) and waits for the confirm. So the loss is known until it is repaired, whichever process
//! noticed it, whatever dies meanwhile, and after the queue was declared again. The worker that keeps
//! the history of an exchange consumes these records and puts the events of the last [`REACH`] into the
//! new queue. Events that were applied before are delivered again, and consumers ignore them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use contract::event::{Envelope, EventType};
use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use runtime::supervise::keep_running;
use serde::{Deserialize, Serialize};
use stores::StoreError;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{Bus, BusError, Delivery, Queue, Subscription, Topology};

/// How far back a queue is refilled, counted from when its loss was noticed.
pub const REACH: Duration = Duration::from_secs(24 * 60 * 60);
/// Events that are published before their confirms are awaited.
const BATCH: usize = 256;
/// Losses that are repaired together.
const LOSS_BATCH: usize = 100;
/// How often everything is declared again: RabbitMQ does not report that a binding was deleted.
const DECLARE_EVERY: Duration = Duration::from_secs(10);

/// Each exchange, and the queue that records the losses of its queues.
pub const LOSSES: [(&str, &str); 2] = [("tasks", "tasks.lost"), ("users", "users.lost")];

/// A queue that was missing.
#[derive(Debug, Serialize, Deserialize)]
pub struct Loss {
    queue: String,
    /// When it was noticed.
    at: Timestamp,
}

impl Loss {
    pub fn of(queue: Queue, at: Timestamp) -> Self {
        let queue = queue.name.to_owned();
        Self { queue, at }
    }

    pub fn to_json(&self) -> Vec<u8> {
        serde_json::json!(self).to_string().into_bytes()
    }
}

/// A bus whose queues somebody can delete.
#[async_trait]
pub trait Refillable: Bus {
    /// Declares everything, and records what was missing.
    async fn declare(&self) -> Result<(), BusError>;

    /// The recorded losses of queues that `exchange` feeds. Each stays until it is acknowledged.
    async fn losses(&self, exchange: &'static str) -> Result<Box<dyn Subscription>, BusError>;

    /// Publishes events to one queue only, and returns when all are confirmed.
    async fn put(&self, queue: Queue, events: &[Envelope]) -> Result<(), BusError>;
}

/// Every event of the last [`REACH`].
pub trait History: Send + Sync + 'static {
    /// The events of a type since a time, each at least once, including all that wait in the outbox.
    ///
    /// The outbox is read before the history: an event that is published in between is then found in
    /// the history, and an event that the lost queue had confirmed is in one of the two.
    fn events_since(
        &self,
        event_type: EventType,
        since: Timestamp,
    ) -> BoxStream<'static, Result<Envelope, StoreError>>;
}

/// Why a queue is not refilled yet. The loss is still recorded.
#[derive(Debug, thiserror::Error)]
pub enum RefillError {
    #[error("the queue cannot be filled")]
    Bus(#[from] BusError),
    #[error("the history cannot be read")]
    History(#[from] StoreError),
}

/// Refills the lost queues of one exchange.
pub struct Refiller {
    bus: Arc<dyn Refillable>,
    history: Arc<dyn History>,
    exchange: &'static str,
}

impl Refiller {
    pub fn new(
        bus: Arc<dyn Refillable>,
        history: Arc<dyn History>,
        exchange: &'static str,
    ) -> Self {
        Self {
            bus,
            history,
            exchange,
        }
    }

    /// Runs `work`, and refills lost queues until it ends.
    pub async fn beside<T>(self, work: impl Future<Output = T>) -> T {
        let end = CancellationToken::new();
        let (refiller, shutdown) = (Arc::new(self), end.clone());
        let refill = keep_running("refiller", end.clone(), move || {
            refiller.clone().run(shutdown.clone())
        });
        // Also ends the refill when the work panics or is dropped.
        let ended = end.drop_guard();
        let refilling = tokio::spawn(refill);
        let done = work.await;
        drop(ended);
        if let Err(panic) = refilling.await {
            tracing::error!(error = %panic, "the refiller's supervisor panicked");
        }
        done
    }

    /// Refills queues as their losses are recorded, until `shutdown`. The rest stays recorded.
    async fn run(self: Arc<Self>, shutdown: CancellationToken) -> anyhow::Result<()> {
        let refilling = shutdown.run_until_cancelled(self.follow());
        Ok(refilling.await.transpose().map(drop)?)
    }

    async fn follow(&self) -> Result<(), RefillError> {
        let mut lost = self.bus.losses(self.exchange).await?;
        let mut declare = tokio::time::interval(DECLARE_EVERY);
        declare.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = declare.tick() => self.bus.declare().await?,
                batch = lost.next_batch(LOSS_BATCH) => {
                    self.repair(lost.as_mut(), batch?).await?;
                }
            }
        }
    }

    /// Waits for losses and repairs them. Returns how many events were published again.
    pub async fn refill_once(&self, lost: &mut dyn Subscription) -> Result<usize, RefillError> {
        let batch = lost.next_batch(LOSS_BATCH).await?;
        self.repair(lost, batch).await
    }

    async fn repair(
        &self,
        lost: &mut dyn Subscription,
        batch: Vec<Delivery>,
    ) -> Result<usize, RefillError> {
        // The process that recorded the loss may have died before it bound the queue, and events that are
        // published before the binding exists miss the queue.
        self.bus.declare().await?;
        let (mut known, mut noticed) = (Vec::new(), BTreeMap::new());
        for delivery in batch {
            match read(&delivery, self.bus.topology()) {
                Ok((queue, at)) => {
                    // Several processes may have recorded the same loss.
                    let first = noticed.entry(queue.name).or_insert((queue, at));
                    first.1 = first.1.min(at);
                    known.push(delivery);
                }
                Err(why) => lost.dead_letter(&delivery, &why).await?,
            }
        }
        let mut published = 0;
        for (queue, at) in noticed.into_values() {
            published += self.refill(queue, at - REACH).await?;
        }
        lost.ack(&known).await?;
        Ok(published)
    }

    async fn refill(&self, queue: Queue, since: Timestamp) -> Result<usize, RefillError> {
        let events = self.history.events_since(queue.event_type, since);
        let mut chunks = events.try_chunks(BATCH);
        let mut published = 0;
        while let Some(chunk) = chunks.try_next().await.map_err(|error| error.1)? {
            self.bus.put(queue, &chunk).await?;
            published += chunk.len();
        }
        tracing::warn!(
            queue = queue.name,
            events = published,
            "the queue `{}` was not there; it is again, with the events of the last 24 h",
            queue.name
        );
        Ok(published)
    }
}

fn read(delivery: &Delivery, topology: &Topology) -> Result<(Queue, Timestamp), String> {
    let Loss { queue, at } =
        serde_json::from_slice(&delivery.body).map_err(|why| format!("no loss: {why}"))?;
    topology
        .find(&queue)
        .map(|known| (known, at))
        .ok_or_else(|| format!("no queue is called `{queue}`"))
}
