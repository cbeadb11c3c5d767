//! Queues that were gone are filled again from the history.
//!
//! Whoever is about to declare a queue and finds that it is not there says so first, in a queue of
//! its own ([`LOSSES`]), confirmed. So a loss is known for as long as it is not mended, whoever
//! noticed it and whatever dies meanwhile, and also after the queue was declared again. The worker
//! that has the history, one for each exchange, listens there and puts the events of the last
//! [`REACH`] into the new queue. Events that were applied before come twice, which consumers ignore.

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

/// How far back a queue is filled, from when its loss was noticed.
pub const REACH: Duration = Duration::from_secs(24 * 60 * 60);
/// Events that are put back before their confirms are waited for.
const AT_ONCE: usize = 256;
/// Losses that are mended together.
const LOSSES_AT_ONCE: usize = 100;
/// How often everything is declared again: nobody is told when a binding is deleted.
const DECLARE_EVERY: Duration = Duration::from_secs(10);

/// Each exchange, and the queue in which the losses of its queues are told.
pub const LOSSES: [(&str, &str); 2] = [("tasks", "tasks.lost"), ("users", "users.lost")];

/// A queue was not there.
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
    /// Declares everything, and tells of what was not there.
    async fn declare(&self) -> Result<(), BusError>;

    /// Losses of queues that `exchange` feeds, until they are acknowledged.
    async fn losses(&self, exchange: &'static str) -> Result<Box<dyn Subscription>, BusError>;

    /// Puts events into one queue and no other. Done when all are confirmed.
    async fn put(&self, queue: Queue, events: &[Envelope]) -> Result<(), BusError>;
}

/// Every event there was.
pub trait History: Send + Sync + 'static {
    /// Those of a type that happened since, each at least once, and all that wait in the outbox.
    ///
    /// The outbox is read first: an event that is published in between is then found in the history,
    /// and one that the lost queue had confirmed is in one of the two.
    fn told(
        &self,
        event_type: EventType,
        since: Timestamp,
    ) -> BoxStream<'static, Result<Envelope, StoreError>>;
}

/// Why a queue is not filled yet. The loss is still known.
#[derive(Debug, thiserror::Error)]
pub enum RefillError {
    #[error("the queue cannot be filled")]
    Bus(#[from] BusError),
    #[error("the history cannot be read")]
    History(#[from] StoreError),
}

/// Mends the losses of one exchange.
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

    /// Does `work`, and mends meanwhile.
    pub async fn beside<T>(self, work: impl Future<Output = T>) -> T {
        let end = CancellationToken::new();
        let (refiller, ends) = (Arc::new(self), end.clone());
        let refill = keep_running("refiller", end.clone(), move || {
            refiller.clone().run(ends.clone())
        });
        // Also where the work panics or is dropped.
        let ended = end.drop_guard();
        let refilling = tokio::spawn(refill);
        let done = work.await;
        drop(ended);
        if let Err(panic) = refilling.await {
            tracing::error!(error = %panic, "the refiller's supervisor panicked");
        }
        done
    }

    /// Mends what is lost as it becomes known, until `shutdown`; what is not mended then is still known.
    async fn run(self: Arc<Self>, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mending = shutdown.run_until_cancelled(self.follow());
        Ok(mending.await.transpose().map(drop)?)
    }

    async fn follow(&self) -> Result<(), RefillError> {
        let mut lost = self.bus.losses(self.exchange).await?;
        let mut declare = tokio::time::interval(DECLARE_EVERY);
        declare.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = declare.tick() => self.bus.declare().await?,
                batch = lost.next_batch(LOSSES_AT_ONCE) => {
                    self.mend(lost.as_mut(), batch?).await?;
                }
            }
        }
    }

    /// Waits for losses and mends them; how many events were put back.
    pub async fn mend_once(&self, lost: &mut dyn Subscription) -> Result<usize, RefillError> {
        let batch = lost.next_batch(LOSSES_AT_ONCE).await?;
        self.mend(lost, batch).await
    }

    async fn mend(
        &self,
        lost: &mut dyn Subscription,
        batch: Vec<Delivery>,
    ) -> Result<usize, RefillError> {
        // Whoever told of it may not have come to bind it, and what is published until then misses it.
        self.bus.declare().await?;
        let (mut known, mut noticed) = (Vec::new(), BTreeMap::new());
        for delivery in batch {
            match read(&delivery, self.bus.topology()) {
                Ok((queue, at)) => {
                    // Several may have noticed.
                    let first = noticed.entry(queue.name).or_insert((queue, at));
                    first.1 = first.1.min(at);
                    known.push(delivery);
                }
                Err(why) => lost.dead_letter(&delivery, &why).await?,
            }
        }
        let mut put_back = 0;
        for (queue, at) in noticed.into_values() {
            put_back += self.refill(queue, at - REACH).await?;
        }
        lost.ack(&known).await?;
        Ok(put_back)
    }

    async fn refill(&self, queue: Queue, since: Timestamp) -> Result<usize, RefillError> {
        let told = self.history.told(queue.event_type, since);
        let mut events = told.try_chunks(AT_ONCE);
        let mut put_back = 0;
        while let Some(chunk) = events.try_next().await.map_err(|error| error.1)? {
            self.bus.put(queue, &chunk).await?;
            put_back += chunk.len();
        }
        tracing::warn!(
            queue = queue.name,
            events = put_back,
            "the queue `{}` was not there; it is again, with the events of the last 24 h",
            queue.name
        );
        Ok(put_back)
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
