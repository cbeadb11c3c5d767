//! Deliveries of several queues on one channel, and their acknowledgements.

use std::collections::{BTreeSet, HashMap};
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use events::bus::{BusError, Delivery, PublishOutcome, Subscription};
use futures_util::stream::{SelectAll, once, select_all};
use futures_util::{FutureExt, Stream, StreamExt};
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::protocol::{AMQPErrorKind, AMQPHardError};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, ErrorKind};

use super::connection::BrokerConnection;
use super::error::bus_error;
use super::message::dead_letter;
use super::publisher::Publisher;
use super::reconnecting::Reconnecting;
use super::topology;

/// The longest reason in a header; the rest is cut off.
const MAX_REASON_BYTES: usize = 1_000;

/// A delivery of a queue; `None` if the broker ended the consumer, because its queue is gone.
type Item = (
    &'static str,
    Option<lapin::Result<lapin::message::Delivery>>,
);
type Deliveries = SelectAll<Pin<Box<dyn Stream<Item = Item> + Send>>>;

struct RabbitSubscription {
    connection: Arc<BrokerConnection>,
    publishing: Arc<Reconnecting>,
    channel: Channel,
    deliveries: Deliveries,
    /// The properties of each message that is neither acknowledged nor dead-lettered.
    unsettled: HashMap<u64, BasicProperties>,
    tags: Tags,
    /// Made when the first message is dead-lettered.
    dead_letters: Option<Publisher>,
}

pub(super) async fn open(
    connection: Arc<BrokerConnection>,
    publishing: Arc<Reconnecting>,
    queues: &[&'static str],
    prefetch: u16,
) -> Result<impl Subscription + use<>, BusError> {
    // A queue may have been deleted since the connection was made.
    topology::declare(&connection).await?;
    let channel = connection.channel().await?;
    // Quorum queues have a prefetch per consumer only, and most of the time one queue has all the messages.
    connection
        .call(channel.basic_qos(prefetch, BasicQosOptions::default()))
        .await?;
    // A random priority: one replica is served first, and the others get what exceeds its prefetch. So
    // batches are fuller, and transactions of several replicas do not collide over the same users.
    let (_, random) = uuid::Uuid::now_v7().as_u64_pair();
    let priority = i32::try_from(random % (1 << 30)).unwrap_or_default();
    let mut preference = FieldTable::default();
    preference.insert("x-priority".into(), AMQPValue::LongInt(priority));
    let mut streams = Vec::with_capacity(queues.len());
    for &name in queues {
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(name.into(), "".into(), options, preference.clone());
        let ended = once(std::future::ready(None));
        let consumer = connection.call(consumer).await;
        let consumer = consumer.map_err(|error| unusable(name, error))?;
        let stream = consumer.map(Some).chain(ended);
        streams.push(stream.map(move |item| (name, item)).boxed());
    }
    Ok(RabbitSubscription {
        connection,
        publishing,
        channel,
        deliveries: select_all(streams),
        unsettled: HashMap::new(),
        tags: Tags::default(),
        dead_letters: None,
    })
}

/// RabbitMQ reports a quorum queue without a leader only as INTERNAL_ERROR.
fn unusable(queue: &str, error: BusError) -> BusError {
    if !matches!(&error, BusError::Unavailable(why) if is_internal(why.as_ref())) {
        return error;
    }
    BusError::Refused(format!(
        "the queue `{queue}` cannot be consumed (INTERNAL_ERROR); where that lasts while all nodes of \
         the broker run, it has no leader: delete it, then it is made anew and filled again"
    ))
}

fn is_internal(why: &(dyn std::error::Error + 'static)) -> bool {
    let Some(error) = why.downcast_ref::<lapin::Error>() else {
        return false;
    };
    matches!(
        error.kind(),
        ErrorKind::ProtocolError(refusal)
            if matches!(refusal.kind(), AMQPErrorKind::Hard(AMQPHardError::INTERNALERROR))
    )
}

impl RabbitSubscription {
    fn receive(&mut self, item: Option<Item>) -> Result<Delivery, BusError> {
        match item {
            Some((queue, Some(Ok(delivery)))) => {
                self.unsettled
                    .insert(delivery.delivery_tag, delivery.properties);
                Ok(Delivery {
                    body: delivery.data.into(),
                    queue,
                    redelivered: delivery.redelivered,
                    tag: delivery.delivery_tag,
                })
            }
            Some((_, Some(Err(error)))) => {
                self.connection.kill();
                Err(bus_error(error))
            }
            Some((queue, None)) => Err(BusError::Unavailable(
                format!("the consumer of `{queue}` was ended").into(),
            )),
            None => Err(BusError::Unavailable("the subscription has ended".into())),
        }
    }

    async fn ack_tags(&mut self, tags: impl Iterator<Item = u64>) -> Result<(), BusError> {
        let (up_to, single) = self.tags.settle(tags);
        let all = up_to.map(|tag| (tag, true)).into_iter();
        for (tag, multiple) in all.chain(single.into_iter().map(|tag| (tag, false))) {
            let options = BasicAckOptions { multiple };
            self.connection
                .call(self.channel.basic_ack(tag, options))
                .await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Subscription for RabbitSubscription {
    async fn next_batch(&mut self, max: usize) -> Result<Vec<Delivery>, BusError> {
        let first = async { Ok(self.deliveries.next().await) };
        let first = self.connection.while_alive(first).await?;
        let mut batch = vec![self.receive(first)?];
        while batch.len() < max
            && let Some(item) = self.deliveries.next().now_or_never()
        {
            batch.push(self.receive(item)?);
        }
        Ok(batch)
    }

    async fn ack(&mut self, deliveries: &[Delivery]) -> Result<(), BusError> {
        for delivery in deliveries {
            self.unsettled.remove(&delivery.tag);
        }
        self.ack_tags(deliveries.iter().map(|delivery| delivery.tag))
            .await
    }

    async fn dead_letter(&mut self, delivery: &Delivery, reason: &str) -> Result<(), BusError> {
        let properties = self
            .unsettled
            .get(&delivery.tag)
            .cloned()
            .unwrap_or_default();
        let event_id = properties.message_id().clone();
        let headers = headers(reason, delivery.queue, event_id);
        let message = dead_letter(delivery.body.to_vec(), properties, headers);

        let publisher = match self.dead_letters.take().filter(Publisher::is_usable) {
            Some(publisher) => publisher,
            None => Publisher::open(self.publishing.connection().await?).await?,
        };
        let outcome = publisher.send(&[message]).await.remove(0);
        match outcome {
            Ok(PublishOutcome::Confirmed) => self.dead_letters = Some(publisher),
            Ok(PublishOutcome::Failed(why)) => return Err(BusError::Unavailable(why.into())),
            Err(error) => {
                publisher.give_up();
                return Err(error);
            }
        }
        // After the confirm: a crash before this line makes a second dead letter, never none.
        self.unsettled.remove(&delivery.tag);
        self.ack_tags(std::iter::once(delivery.tag)).await
    }
}

fn headers(reason: &str, queue: &str, event_id: Option<ShortString>) -> FieldTable {
    let end = reason.floor_char_boundary(MAX_REASON_BYTES);
    let mut headers = FieldTable::default();
    let mut set = |name: &str, value: &str| {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    };
    set("x-reason", &reason[..end]);
    set("x-original-queue", queue);
    set("x-event-id", event_id.as_ref().map_or("", |id| id.as_str()));
    headers
}

/// Which tags of a channel are settled. The channel counts deliveries from 1 over all its queues,
/// so a delivery that was not handled yet can have a lower tag than an acknowledged one.
#[derive(Default)]
struct Tags {
    /// Every tag up to this one is settled.
    up_to: u64,
    /// Settled tags beyond it.
    beyond: BTreeSet<u64>,
}

impl Tags {
    /// Settles `tags`. Returns a tag to acknowledge together with all before it, and the tags to acknowledge
    /// one by one. All of them are among `tags`: the broker closes a channel that acknowledges a tag twice.
    fn settle(&mut self, tags: impl Iterator<Item = u64>) -> (Option<u64>, Vec<u64>) {
        let settled = self.up_to;
        let new: Vec<u64> = tags
            .filter(|tag| *tag > settled && self.beyond.insert(*tag))
            .collect();
        while self.beyond.remove(&(self.up_to + 1)) {
            self.up_to += 1;
        }
        let (with_all_before, single): (Vec<u64>, Vec<u64>) =
            new.into_iter().partition(|tag| *tag <= self.up_to);
        (with_all_before.into_iter().max(), single)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_that_nobody_settled_is_never_acknowledged_with_others() {
        let mut tags = Tags::default();
        assert_eq!(tags.settle([2, 3].into_iter()), (None, vec![2, 3]));
        assert_eq!(tags.settle([1, 5].into_iter()), (Some(1), vec![5]));
        assert_eq!(tags.settle([4].into_iter()), (Some(4), vec![]));
        assert_eq!(tags.settle([7, 6].into_iter()), (Some(7), vec![]));
        assert_eq!(tags.settle([3, 7].into_iter()), (None, vec![]));
    }
}
