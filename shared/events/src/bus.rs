//! The port to the message broker. Only the relay publishes; only consumers subscribe.
//!
//! A publish counts only when the broker confirmed that a queue holds the message. A delivery ends
//! in exactly one named way: acknowledged, put back, or dead-lettered. Hints are not events: they reach
//! whoever listens now, and may be lost.

#[cfg(feature = "conformance")]
pub mod conformance;
pub mod dead_letters;
pub mod refill;
mod topology;

pub use topology::{DEAD_LETTER, Queue, Topology};

use async_trait::async_trait;
use bytes::Bytes;
use contract::event::Envelope;
use runtime::error::BoxError;

/// Why the broker did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// No connection, or it broke: everything unconfirmed counts as unpublished, everything
    /// unacknowledged will be delivered again.
    #[error("the broker cannot be reached")]
    Unavailable(#[source] BoxError),
    /// The broker refused what we declared: somebody has to act.
    #[error("the broker refused: {0}")]
    Refused(String),
}

/// What became of one published event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A queue holds it, on disk.
    Confirmed,
    /// Nacked, returned as unroutable, or not confirmed in time: it counts as not published.
    Failed(String),
}

/// The broker, as the relay and the consumers see it.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// What is behind it, as readiness tells.
    fn name(&self) -> &'static str;

    /// The queues that events are routed to.
    fn topology(&self) -> &Topology;

    /// Publishes in order and waits for the confirms: one outcome per envelope. An error means that
    /// nothing is known of any of them.
    async fn publish(&self, batch: &[Envelope]) -> Result<Vec<Outcome>, BusError>;

    /// Starts taking deliveries from `queues`, of each at most `prefetch` unacknowledged at a time.
    async fn subscribe(
        &self,
        queues: &[Queue],
        prefetch: u16,
    ) -> Result<Box<dyn Subscription>, BusError>;

    /// Tells all who listen now, in every process. Nobody confirms or keeps it.
    async fn hint(&self, body: Bytes) -> Result<(), BusError>;

    /// Listens to what is hinted from now on.
    async fn hints(&self) -> Result<Box<dyn Hints>, BusError>;

    /// How many dead letters there are now.
    async fn dead_letters(&self) -> Result<u64, BusError>;

    /// Whether the broker answers now.
    async fn ping(&self) -> Result<(), BusError>;
}

/// Hints until the connection breaks; whoever listens again looks for themselves what happened
/// meanwhile. A listener that does not keep up may miss some without a word.
#[async_trait]
pub trait Hints: Send {
    async fn next(&mut self) -> Result<Bytes, BusError>;
}

/// One delivery of a message.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub body: Bytes,
    pub queue: &'static str,
    pub redelivered: bool,
    /// The adapter's handle of this delivery.
    pub tag: u64,
}

/// Deliveries until the connection breaks. Dropping it puts back what is not acknowledged.
#[async_trait]
pub trait Subscription: Send {
    /// Waits for one delivery, then takes what else is there without waiting, up to `max`.
    async fn next_batch(&mut self, max: usize) -> Result<Vec<Delivery>, BusError>;

    /// Acknowledges: their effect is durable.
    async fn ack(&mut self, deliveries: &[Delivery]) -> Result<(), BusError>;

    /// Puts one aside with its reason: it is confirmed in the dead-letter queue before it is
    /// acknowledged, so it is never lost between the two.
    async fn dead_letter(&mut self, delivery: &Delivery, reason: &str) -> Result<(), BusError>;
}
