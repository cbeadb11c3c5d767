//! Losses are messages in a queue of their own. Events are published again to the lost queue only.

use async_trait::async_trait;
use contract::event::Envelope;
use events::bus::refill::{LOSSES, Refillable};
use events::bus::{BusError, PublishOutcome, Queue, Subscription};

use super::message::{self, Message};
use super::publisher::Publisher;
use super::{RabbitBus, subscription, topology};

/// The most unacknowledged losses.
const PREFETCH: u16 = 100;

#[async_trait]
impl Refillable for RabbitBus {
    async fn declare(&self) -> Result<(), BusError> {
        topology::declare(self.connection().await?.as_ref()).await
    }

    async fn losses(&self, exchange: &'static str) -> Result<Box<dyn Subscription>, BusError> {
        let recorded = LOSSES.into_iter().find(|(from, _)| *from == exchange);
        let (_, queue) = recorded.ok_or_else(|| {
            BusError::Refused(format!(
                "nobody tells of losses of the exchange `{exchange}`"
            ))
        })?;
        let (connection, publishing) = (self.connection().await?, self.publishing.clone());
        let subscription = subscription::open(connection, publishing, &[queue], PREFETCH).await?;
        Ok(Box::new(subscription))
    }

    async fn put(&self, queue: Queue, events: &[Envelope]) -> Result<(), BusError> {
        let message = |event| message::for_queue(queue.name, event);
        let messages: Vec<Message> = events.iter().map(message).collect::<Result<_, _>>()?;
        // A channel of its own, because the relay's is busy with new events.
        let publisher = Publisher::open(self.publishing.connection().await?).await?;
        for outcome in publisher.send(&messages).await {
            if let PublishOutcome::Failed(why) = outcome? {
                return Err(BusError::Unavailable(why.into()));
            }
        }
        publisher.close().await
    }
}
