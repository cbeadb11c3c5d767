//! Losses are messages in a queue; what mends them goes straight into the queue that lost it.

use async_trait::async_trait;
use contract::event::Envelope;
use events::bus::refill::{LOSSES, Refillable};
use events::bus::{BusError, Outcome, Queue, Subscription};

use super::message::{self, Message};
use super::publisher::Publisher;
use super::{RabbitBus, subscription, topology};

/// Losses on their way at a time.
const PREFETCH: u16 = 100;

#[async_trait]
impl Refillable for RabbitBus {
    async fn declare(&self) -> Result<(), BusError> {
        topology::declare(self.link().await?.as_ref()).await
    }

    async fn losses(&self, exchange: &'static str) -> Result<Box<dyn Subscription>, BusError> {
        let of = LOSSES.into_iter().find(|(from, _)| *from == exchange);
        let (_, queue) = of.ok_or_else(|| {
            BusError::Refused(format!(
                "nobody tells of losses of the exchange `{exchange}`"
            ))
        })?;
        let (link, publishing) = (self.link().await?, self.publishing.clone());
        let subscription = subscription::open(link, publishing, &[queue], PREFETCH).await?;
        Ok(Box::new(subscription))
    }

    async fn put(&self, queue: Queue, events: &[Envelope]) -> Result<(), BusError> {
        let into = |event| message::into(queue.name, event);
        let messages: Vec<Message> = events.iter().map(into).collect::<Result<_, _>>()?;
        // A channel of its own: the relay's is busy with what is new.
        let publisher = Publisher::open(self.publishing.link().await?).await?;
        for outcome in publisher.send(&messages).await {
            if let Outcome::Failed(why) = outcome? {
                return Err(BusError::Unavailable(why.into()));
            }
        }
        publisher.close().await
    }
}
