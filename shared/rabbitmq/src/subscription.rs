//! Deliveries of several queues on one channel, and the acknowledgements.

use std::collections::{BTreeSet, HashMap};
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use events::bus::{BusError, Delivery, Outcome, Subscription};
use futures_util::stream::{SelectAll, once, select_all};
use futures_util::{FutureExt, Stream, StreamExt};
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::protocol::{AMQPErrorKind, AMQPHardError};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, ErrorKind};

use super::connection::BrokerConnection;
use super::error::bus_error;
use super::message::parked;
use super::publisher::Publisher;
use super::reconnecting::Reconnecting;
use super::topology;

/// How much of a reason goes into a header.
const MAX_REASON_BYTES: usize = 1_000;

/// A delivery of a queue; `None` where the broker ended the consumer (its queue is gone).
type Item = (
    &'static str,
    Option<lapin::Result<lapin::message::Delivery>>,
);
type Deliveries = SelectAll<Pin<Box<dyn Stream<Item = Item> + Send>>>;

struct RabbitSubscription {
    link: Arc<BrokerConnection>,
    publishing: Arc<Reconnecting>,
    channel: Channel,
    deliveries: Deliveries,
    /// The properties of each message that is neither acknowledged nor dead-lettered.
    open: HashMap<u64, BasicProperties>,
    tags: Tags,
    /// Made when the first message is dead-lettered.
    dead_letters: Option<Publisher>,
}

pub(super) async fn open(
    link: Arc<BrokerConnection>,
    publishing: Arc<Reconnecting>,
    queues: &[&'static str],
    prefetch: u16,
) -> Result<impl Subscription + use<>, BusError> {
    // A queue may have been deleted since the connection was made.
    topology::declare(&link).await?;
    let channel = link.channel().await?;
    // Quorum queues have a prefetch per consumer only, and most of the time one queue has all the messages.
    link.call(channel.basic_qos(prefetch, BasicQosOptions::default()))
        .await?;
    // One replica is served first and the others get what exceeds its prefetch. So batches are fuller,
    // and transactions of several replicas do not collide over the same users.
    let (_, drawn) = uuid::Uuid::now_v7().as_u64_pair();
    let priority = i32::try_from(drawn % (1 << 30)).unwrap_or_default();
    let mut preference = FieldTable::default();
    preference.insert("x-priority".into(), AMQPValue::LongInt(priority));
    let mut streams = Vec::with_capacity(queues.len());
    for &name in queues {
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(name.into(), "".into(), options, preference.clone());
        let ended = once(std::future::ready(None));
        let consumer = link.call(consumer).await;
        let consumer = consumer.map_err(|error| unusable(name, error))?;
        let stream = consumer.map(Some).chain(ended);
        streams.push(stream.map(move |item| (name, item)).boxed());
    }
    Ok(RabbitSubscription {
        link,
        publishing,
        channel,
        deliveries: select_all(streams),
        open: HashMap::new(),
        tags: Tags::default(),
        dead_letters: None,
    })
}

/// All that RabbitMQ says of a quorum queue without a leader is INTERNAL_ERROR.
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
        ErrorKind::ProtocolError(said)
            if matches!(said.kind(), AMQPErrorKind::Hard(AMQPHardError::INTERNALERROR))
    )
}

impl RabbitSubscription {
    fn take(&mut self, item: Option<Item>) -> Result<Delivery, BusError> {
        match item {
            Some((queue, Some(Ok(delivery)))) => {
                self.open.insert(delivery.delivery_tag, delivery.properties);
                Ok(Delivery {
                    body: delivery.data.into(),
                    queue,
                    redelivered: delivery.redelivered,
                    tag: delivery.delivery_tag,
                })
            }
            Some((_, Some(Err(error)))) => {
                self.link.kill();
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
            self.link.call(self.channel.basic_ack(tag, options)).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Subscription for RabbitSubscription {
    async fn next_batch(&mut self, max: usize) -> Result<Vec<Delivery>, BusError> {
        let first = async { Ok(self.deliveries.next().await) };
        let first = self.link.while_alive(first).await?;
        let mut batch = vec![self.take(first)?];
        while batch.len() < max
            && let Some(item) = self.deliveries.next().now_or_never()
        {
            batch.push(self.take(item)?);
        }
        Ok(batch)
    }

    async fn ack(&mut self, deliveries: &[Delivery]) -> Result<(), BusError> {
        for delivery in deliveries {
            self.open.remove(&delivery.tag);
        }
        self.ack_tags(deliveries.iter().map(|delivery| delivery.tag))
            .await
    }

    async fn dead_letter(&mut self, delivery: &Delivery, reason: &str) -> Result<(), BusError> {
        let properties = self.open.get(&delivery.tag).cloned().unwrap_or_default();
        let event_id = properties.message_id().clone();
        let headers = headers(reason, delivery.queue, event_id);
        let message = parked(delivery.body.to_vec(), properties, headers);

        let publisher = match self.dead_letters.take().filter(Publisher::is_usable) {
            Some(publisher) => publisher,
            None => Publisher::open(self.publishing.link().await?).await?,
        };
        let outcome = publisher.send(&[message]).await.remove(0);
        match outcome {
            Ok(Outcome::Confirmed) => self.dead_letters = Some(publisher),
            Ok(Outcome::Failed(why)) => return Err(BusError::Unavailable(why.into())),
            Err(error) => {
                publisher.give_up();
                return Err(error);
            }
        }
        // After the confirm: a crash before this line makes a second dead letter, never none.
        self.open.remove(&delivery.tag);
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
/// so one that we have not looked at yet can have a lower tag than one that is acknowledged.
#[derive(Default)]
struct Tags {
    /// Every tag up to this one is settled.
    up_to: u64,
    /// Settled tags beyond it.
    beyond: BTreeSet<u64>,
}

impl Tags {
    /// Settles `tags`: one to acknowledge with all before it, and those to acknowledge one by one.
    /// Each is among `tags`: the broker closes a channel that acknowledges one a second time.
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
