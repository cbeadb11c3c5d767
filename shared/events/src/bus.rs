//! The port to the message broker. Only the relay publishes; only consumers subscribe.
//!
//! A publish counts only after the broker has confirmed that a queue holds the message. A delivery ends
//! in exactly one named way: acknowledged, put back, or dead-lettered. Hints are not events: they reach
//! the processes that listen at that moment, and may be lost.

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
    /// The broker refused what we declared: an operator has to act.
    #[error("the broker refused: {0}")]
    Refused(String),
}

/// The outcome of publishing one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishOutcome {
    /// A queue has it on disk.
    Confirmed,
    /// Nacked, returned as unroutable, or not confirmed in time: it counts as not published.
    Failed(String),
}

/// The broker, as the relay and the consumers see it.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// The broker's name in `/readyz`.
    fn name(&self) -> &'static str;

    /// The queues that events are routed to.
    fn topology(&self) -> &Topology;

    /// Publishes in order, waits for the confirms, and returns one outcome per envelope. After an error
    /// the outcome of all of them is unknown.
    async fn publish(&self, batch: &[Envelope]) -> Result<Vec<PublishOutcome>, BusError>;

    /// Subscribes to `queues`, with at most `prefetch` unacknowledged deliveries of each.
    async fn subscribe(
        &self,
        queues: &[Queue],
        prefetch: u16,
    ) -> Result<Box<dyn Subscription>, BusError>;

    /// Sends a hint to every process that listens now. It is neither confirmed nor kept.
    async fn hint(&self, body: Bytes) -> Result<(), BusError>;

    /// Listens to hints from now on.
    async fn hints(&self) -> Result<Box<dyn Hints>, BusError>;

    /// How many dead letters there are now.
    async fn dead_letters(&self) -> Result<u64, BusError>;

    /// Whether the broker answers now.
    async fn ping(&self) -> Result<(), BusError>;
}

/// Hints, until the connection breaks. A process that listens again must look for itself what happened
/// meanwhile. A slow listener may miss hints without notice.
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
    /// Waits for one delivery, then adds those that are there already, up to `max` in all.
    async fn next_batch(&mut self, max: usize) -> Result<Vec<Delivery>, BusError>;

    /// Acknowledges deliveries whose effect is durable.
    async fn ack(&mut self, deliveries: &[Delivery]) -> Result<(), BusError>;

    /// Moves a delivery to the dead letters, with the reason. It is confirmed there before it is
    /// acknowledged, so it is never lost in between.
    async fn dead_letter(&mut self, delivery: &Delivery, reason: &str) -> Result<(), BusError>;
}
