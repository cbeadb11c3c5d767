//! Queues that were gone are filled again from the history.
//!
//! Whoever is about to declare a queue and finds that it is not there says so first, in a queue of
//! its own ([`losses`]), confirmed. So a loss is known for as long as it is not mended, whoever
//! noticed it and whatever dies meanwhile, and also after the queue was declared again. The worker
//! that has the history, one for each exchange, listens there and puts the events of the last
//! [`REACH`] into the new queue. Events that were applied before come twice, which consumers ignore.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{Bus, BusError, Delivery, QUEUES, Queue, Subscription};
use crate::event::{Envelope, EventType};
use crate::store::StoreError;
use crate::supervise::keep_running;
use crate::time::Clock;

/// How far back a queue is filled.
pub const REACH: Duration = Duration::from_secs(24 * 60 * 60);
/// Events that are put back before their confirms are waited for.
const AT_ONCE: usize = 256;
/// Losses that are mended together.
const LOSSES: u16 = 100;
/// How often everything is declared again: nobody is told when a binding is deleted.
const DECLARE_EVERY: Duration = Duration::from_secs(10);

/// The queue of an exchange's losses; the body of each message is the name of the lost queue.
pub const fn losses(exchange: &str) -> Option<&'static str> {
    match exchange.as_bytes() {
        b"tasks" => Some("tasks.lost"),
        b"users" => Some("users.lost"),
        _ => None,
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
    clock: Arc<dyn Clock>,
}

impl Refiller {
    pub fn new(
        bus: Arc<dyn Refillable>,
        history: Arc<dyn History>,
        exchange: &'static str,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            bus,
            history,
            exchange,
            clock,
        }
    }

    /// Does `work`, and mends meanwhile.
    pub async fn beside<T>(self, work: impl Future<Output = T>) -> T {
        let end = CancellationToken::new();
        let (refiller, ends) = (Arc::new(self), end.clone());
        let refill = keep_running("refiller", end.clone(), move || {
            refiller.clone().run(ends.clone())
        });
        let refilling = tokio::spawn(refill);
        let done = work.await;
        end.cancel();
        if let Err(panic) = refilling.await {
            tracing::error!(error = %panic, "the refiller's supervisor panicked");
        }
        done
    }

    /// Mends what is lost as it becomes known, until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut lost = self.bus.losses(self.exchange).await?;
        let mut declare = tokio::time::interval(DECLARE_EVERY);
        declare.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                _ = declare.tick() => self.bus.declare().await?,
                batch = lost.next_batch(LOSSES.into()) => {
                    let batch = batch?;
                    tokio::select! {
                        // What is not mended is still known.
                        () = shutdown.cancelled() => return Ok(()),
                        mended = self.mend(lost.as_mut(), &batch) => mended?,
                    };
                }
            }
        }
    }

    /// Waits for losses and mends them; how many events were put back. For tests and [`Self::run`].
    pub async fn mend_once(&self, lost: &mut dyn Subscription) -> Result<usize, RefillError> {
        let batch = lost.next_batch(LOSSES.into()).await?;
        self.mend(lost, &batch).await
    }

    async fn mend(
        &self,
        lost: &mut dyn Subscription,
        batch: &[Delivery],
    ) -> Result<usize, RefillError> {
        let mut put_back = 0;
        for queue in QUEUES {
            // Several may have noticed; what was lost before is all in the history by now.
            if batch.iter().any(|loss| loss.body == queue.name.as_bytes()) {
                put_back += self.refill(queue).await?;
            }
        }
        lost.ack(batch).await?;
        Ok(put_back)
    }

    async fn refill(&self, queue: Queue) -> Result<usize, RefillError> {
        let since = self.clock.now() - REACH;
        let mut events = self
            .history
            .told(queue.event_type, since)
            .try_chunks(AT_ONCE);
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
