//! Takes messages out of the dead-letter queue, one by one, and puts each into the queue it came from.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use async_trait::async_trait;
use events::bus::dead_letters::{DeadLetter, DeadLetters, Redrive, Redriven};
use events::bus::{Bus, BusError, DEAD_LETTER, PublishOutcome};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicGetOptions};
use lapin::types::AMQPValue;

use super::message::redriven;
use super::publisher::Publisher;
use super::{RabbitBus, topology};

/// Messages that are published before their confirms are awaited.
const BATCH: usize = 100;

#[async_trait]
impl DeadLetters for RabbitBus {
    async fn redrive(
        &self,
        redrive: &Redrive,
        seen: &mut (dyn for<'l> FnMut(&'l DeadLetter) + Send),
    ) -> Result<Redriven, BusError> {
        let connection = self.connection().await?;
        topology::declare(&connection).await?;
        let publisher = Publisher::open(self.publishing.connection().await?).await?;
        // When this channel closes, everything that was taken and not acknowledged goes back.
        let channel = connection.channel().await?;
        let mut done = Redriven::default();
        // A poisonous message returns to the dead letters while we work: move each message once.
        let mut known = HashSet::new();
        let mut more = true;
        while more && done.moved < redrive.limit {
            let mut batch = Vec::new();
            while batch.len() < BATCH.min(redrive.limit - done.moved) {
                let get = channel.basic_get(DEAD_LETTER.into(), BasicGetOptions::default());
                let Some(taken) = connection.call(get).await? else {
                    more = false;
                    break;
                };
                let letter = letter(&taken.delivery);
                match redrive.selects(self.topology(), &letter) {
                    Some(queue) if known.insert(fingerprint(queue.name, &taken.data)) => {
                        batch.push((queue.name, letter, taken.delivery));
                    }
                    _ => done.left += 1,
                }
            }
            let (mut letters, mut messages) = (Vec::new(), Vec::new());
            for (queue, letter, delivery) in batch {
                letters.push((letter, delivery.delivery_tag));
                messages.push(redriven(queue, delivery.data, delivery.properties));
            }
            let outcomes = match redrive.dry_run {
                true => letters
                    .iter()
                    .map(|_| Ok(PublishOutcome::Confirmed))
                    .collect(),
                false => publisher.send(&messages).await,
            };
            for ((letter, tag), outcome) in letters.iter().zip(outcomes) {
                if let PublishOutcome::Failed(why) = outcome? {
                    return Err(BusError::Unavailable(why.into()));
                }
                if !redrive.dry_run {
                    let ack = channel.basic_ack(*tag, BasicAckOptions::default());
                    connection.call(ack).await?;
                }
                seen(letter);
                done.moved += 1;
            }
        }
        connection.call(channel.close(200, "done".into())).await?;
        Ok(done)
    }
}

fn fingerprint(queue: &str, body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (queue, body).hash(&mut hasher);
    hasher.finish()
}

/// Read from our own headers, or from the broker's if it moved the message itself.
fn letter(delivery: &Delivery) -> DeadLetter {
    let headers = delivery.properties.headers().as_ref();
    let text = |name: &str| {
        headers
            .and_then(|headers| headers.inner().get(name))
            .and_then(|value| match value {
                AMQPValue::LongString(text) => Some(text.to_string()),
                AMQPValue::ShortString(text) => Some(text.to_string()),
                _ => None,
            })
            .filter(|text| !text.is_empty())
    };
    let id = delivery.properties.message_id().as_ref();
    DeadLetter {
        queue: text("x-original-queue")
            .or_else(|| text("x-first-death-queue"))
            .unwrap_or_default(),
        event_id: text("x-event-id")
            .or_else(|| id.map(|id| id.to_string()))
            .unwrap_or_default(),
        reason: text("x-reason")
            .or_else(|| text("x-first-death-reason"))
            .unwrap_or_default(),
    }
}
