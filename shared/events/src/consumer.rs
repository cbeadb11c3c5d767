//! Takes events from queues and lets a worker apply them, in batches.
//!
//! Every delivery ends in exactly one way: applied (now or before) and acknowledged after the
//! store's majority has it, or dead-lettered with its reason. While the store is away, deliveries
//! are held: nothing is put back, so no outage uses up a message's delivery limit.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use prometheus::{Gauge, IntCounterVec, Opts, Registry};
use runtime::error::chain;
use runtime::telemetry::register;
use runtime::time::Clock;
use stores::StoreError;
use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, BusError, Delivery, Queue, Subscription};
use crate::fail_point::fail_point;
use crate::pace::Pace;

/// Deliveries in one batch, and unacknowledged at a time of each queue.
pub const BATCH: u16 = 500;
/// The least time between two batches under load; [`IN_A_ROW`] batches may begin without it. An event must
/// be readable within 100 ms, and the servers need most of that.
const PACE: Duration = Duration::from_millis(15);
const IN_A_ROW: u32 = 10;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The outcome of applying one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Applied,
    /// It was applied before.
    Duplicate,
}

/// What a worker does with the events of its queues.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// An event as this worker reads it.
    type Event: Clone + Send + Sync;

    /// The queues of this worker.
    fn queues(&self) -> &'static [Queue];

    /// Prepares the store for [`Handler::apply`].
    async fn prepare(&self) -> Result<(), StoreError>;

    /// The event in a message and its time, or why nobody can ever use it.
    fn read(&self, queue: Queue, body: &[u8]) -> Result<(Timestamp, Self::Event), String>;

    /// Applies each event once, durably, and returns one outcome per event, in order. After
    /// `Unavailable` the same events come again. After `Corrupt` they come again in halves, until the
    /// event that the store refuses is alone and is dead-lettered.
    async fn apply(&self, events: &[Self::Event]) -> Result<Vec<Outcome>, StoreError>;
}

/// Consumes a worker's queues.
pub struct Consumer<H> {
    handler: H,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

/// What one step did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub applied: usize,
    pub duplicates: usize,
    pub dead_lettered: usize,
}

/// A delivery that holds an event.
struct Readable<'a, E> {
    delivery: &'a Delivery,
    time: Timestamp,
    event: E,
}

impl<H: Handler> Consumer<H> {
    pub fn new(handler: H, clock: Arc<dyn Clock>, registry: &Registry) -> Self {
        Self {
            handler,
            clock,
            metrics: Metrics::new(registry),
        }
    }

    /// Consumes until `shutdown`, or until the broker fails. Then the next subscriber gets everything
    /// that is not acknowledged.
    pub async fn run(
        self: Arc<Self>,
        bus: Arc<dyn Bus>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        self.handler.prepare().await?;
        let mut subscription = bus.subscribe(self.handler.queues(), BATCH).await?;
        tracing::info!("consuming");
        let mut pace = Pace::new(PACE, IN_A_ROW);
        while !shutdown.is_cancelled() {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = pace.turn() => {}
            }
            self.consume_once(subscription.as_mut(), &shutdown).await?;
        }
        Ok(())
    }

    /// Waits for a batch and ends each of its deliveries. On `shutdown` it returns early, and the broker
    /// delivers again what is not acknowledged.
    pub async fn consume_once(
        &self,
        subscription: &mut dyn Subscription,
        shutdown: &CancellationToken,
    ) -> Result<Step, BusError> {
        let batch = tokio::select! {
            () = shutdown.cancelled() => return Ok(Step::default()),
            batch = subscription.next_batch(BATCH.into()) => batch?,
        };
        fail_point("consumer.received");
        let mut readable = Vec::with_capacity(batch.len());
        let mut poison: Vec<(&Delivery, String)> = Vec::new();
        for delivery in &batch {
            match self.read(delivery) {
                Ok((time, event)) => readable.push(Readable {
                    delivery,
                    time,
                    event,
                }),
                Err(why) => poison.push((delivery, why)),
            }
        }

        let mut step = Step::default();
        // Halves of a batch that the store refuses, the next one last.
        let mut parts: Vec<&[Readable<'_, H::Event>]> = vec![&readable];
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            match self.apply(part, shutdown).await {
                None => return Ok(step),
                Some(Ok(outcomes)) => {
                    fail_point("consumer.applied");
                    let done: Vec<Delivery> = part.iter().map(|r| r.delivery.clone()).collect();
                    subscription.ack(&done).await?;
                    self.count(part, &outcomes, &mut step);
                }
                Some(Err(error)) => match part {
                    [only] => poison.push((only.delivery, chain(&error))),
                    _ => {
                        let (first, second) = part.split_at(part.len() / 2);
                        parts.extend([second, first]);
                    }
                },
            }
        }

        for (delivery, reason) in poison {
            tracing::error!(
                queue = delivery.queue,
                reason,
                "a message was dead-lettered: {reason}"
            );
            subscription.dead_letter(delivery, &reason).await?;
            self.metrics.message(delivery.queue, "dead_lettered");
            step.dead_lettered += 1;
        }
        Ok(step)
    }

    fn read(&self, delivery: &Delivery) -> Result<(Timestamp, H::Event), String> {
        let mut queues = self.handler.queues().iter();
        match queues.find(|queue| queue.name == delivery.queue) {
            Some(queue) => self.handler.read(*queue, &delivery.body),
            None => Err("it came through a queue this version does not know".to_owned()),
        }
    }

    /// Applies events, and tries again until the store answers. An error means that the data is at
    /// fault; `None` means shutdown.
    async fn apply(
        &self,
        part: &[Readable<'_, H::Event>],
        shutdown: &CancellationToken,
    ) -> Option<Result<Vec<Outcome>, StoreError>> {
        let events: Vec<H::Event> = part.iter().map(|r| r.event.clone()).collect();
        let mut pause = FIRST_PAUSE;
        loop {
            match self.handler.apply(&events).await {
                Err(error @ StoreError::Unavailable { .. }) => {
                    let (held, error) = (events.len(), chain(&error));
                    tracing::warn!(held, error, "the store is away; holding {held} messages");
                }
                answer => return Some(answer),
            }
            tokio::select! {
                () = shutdown.cancelled() => return None,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
        }
    }

    fn count(&self, part: &[Readable<'_, H::Event>], outcomes: &[Outcome], step: &mut Step) {
        for (readable, outcome) in part.iter().zip(outcomes) {
            let (name, count) = match outcome {
                Outcome::Applied => ("applied", &mut step.applied),
                Outcome::Duplicate => ("duplicate", &mut step.duplicates),
            };
            *count += 1;
            self.metrics.message(readable.delivery.queue, name);
        }
        if let Some(newest) = part.iter().map(|r| r.time).max() {
            let lag = self.clock.now().duration_since(newest);
            self.metrics.lag.set(lag.as_secs_f64().max(0.0));
        }
    }
}

struct Metrics {
    messages: IntCounterVec,
    lag: Gauge,
}

impl Metrics {
    fn new(registry: &Registry) -> Self {
        let messages = IntCounterVec::new(
            Opts::new("consumer_messages_total", "Deliveries, by how they ended."),
            &["queue", "outcome"],
        );
        let lag = Gauge::new(
            "consumer_lag_seconds",
            "Age of the newest event of the last batch when it was applied.",
        );
        Self {
            messages: register(registry, messages),
            lag: register(registry, lag),
        }
    }

    fn message(&self, queue: &str, outcome: &str) {
        self.messages.with_label_values(&[queue, outcome]).inc();
    }
}
