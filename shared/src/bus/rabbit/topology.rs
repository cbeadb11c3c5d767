//! The exchanges and queues, declared the same way by everybody, as often as they like.
//!
//! All queues are durable quorum queues with arguments that RabbitMQ 3.10 to 4.x understand alike.
//! Arguments cannot be changed later: a queue that was declared with others is a clear error.

use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};

use super::link::Link;
use super::publisher;
use crate::bus::refill::losses;
use crate::bus::{BusError, DEAD_LETTER, QUEUES, Queue};
use crate::event::EventType;

/// How often a message is delivered before the broker itself puts it into the dead letters. High,
/// because every crash of a consumer counts against all messages it held.
const DELIVERY_LIMIT: i32 = 1_000;
/// Nothing catches what the dead-letter queue drops: in effect no limit (RabbitMQ 4 has one of 20
/// where none is given).
const DEAD_LETTER_DELIVERY_LIMIT: i32 = 1_000_000;

/// Declares everything on channels of its own: a refusal closes the channel.
pub(super) async fn declare(link: &Link) -> Result<(), BusError> {
    let channel = link.channel().await?;
    // Dead letters first: no message may find their exchange missing.
    exchange(link, &channel, DEAD_LETTER, ExchangeKind::Fanout).await?;
    queue(link, &channel, DEAD_LETTER, dead_letter_arguments()).await?;
    bind(link, &channel, DEAD_LETTER, DEAD_LETTER, "").await?;
    tell_of_losses(link, &channel).await?;
    for Queue { name, event_type } in QUEUES {
        let (from, key) = (event_type.exchange(), event_type.as_str());
        exchange(link, &channel, from, ExchangeKind::Topic).await?;
        queue(link, &channel, name, arguments()).await?;
        bind(link, &channel, name, from, key).await?;
    }
    link.call(channel.close(200, "done".into())).await
}

/// Says which queues are not there, before anybody makes them. See [`crate::bus::refill`].
async fn tell_of_losses(link: &Link, channel: &Channel) -> Result<(), BusError> {
    let mut lost = Vec::new();
    let mut asking = None;
    for one in QUEUES {
        let there = match asking.take() {
            Some(there) => there,
            None => link.channel().await?,
        };
        if link.has_queue(&there, one.name).await? {
            asking = Some(there);
        } else if let Some(losses) = losses(one.event_type.exchange()) {
            lost.push((losses, one.name));
        }
    }
    for losses in [EventType::TaskCreated, EventType::UserDeleted]
        .iter()
        .filter_map(|kind| losses(kind.exchange()))
    {
        queue(link, channel, losses, dead_letter_arguments()).await?;
    }
    if let Some(done) = asking {
        link.call(done.close(200, "done".into())).await?;
    }
    if lost.is_empty() {
        return Ok(());
    }
    link.call(channel.confirm_select(ConfirmSelectOptions::default()))
        .await?;
    for (losses, name) in lost {
        let (options, persistent) = (BasicPublishOptions::default(), publisher::persistent());
        let told = channel.basic_publish(
            "".into(),
            losses.into(),
            options,
            name.as_bytes(),
            persistent,
        );
        let told = async { told.await?.await };
        if !link.call(told).await?.is_ack() {
            let why = format!("the queue `{losses}` takes nothing");
            return Err(BusError::Unavailable(why.into()));
        }
    }
    Ok(())
}

async fn exchange(
    link: &Link,
    channel: &Channel,
    name: &str,
    kind: ExchangeKind,
) -> Result<(), BusError> {
    let options = ExchangeDeclareOptions {
        durable: true,
        ..Default::default()
    };
    link.call(channel.exchange_declare(name.into(), kind, options, FieldTable::default()))
        .await
        .map_err(|error| refused("exchange", name, error))
}

async fn queue(
    link: &Link,
    channel: &Channel,
    name: &str,
    arguments: FieldTable,
) -> Result<(), BusError> {
    link.call(channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments))
        .await
        .map(drop)
        .map_err(|error| refused("queue", name, error))
}

async fn bind(
    link: &Link,
    channel: &Channel,
    queue: &str,
    exchange: &str,
    key: &str,
) -> Result<(), BusError> {
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    link.call(channel.queue_bind(queue.into(), exchange.into(), key.into(), options, none))
        .await
}

fn refused(what: &str, name: &str, error: BusError) -> BusError {
    match error {
        BusError::Refused(why) => BusError::Refused(format!(
            "the {what} `{name}` cannot be declared, perhaps because it was made with other \
             arguments; empty and delete it, then it is made anew ({why})"
        )),
        other => other,
    }
}

fn arguments() -> FieldTable {
    let mut arguments = quorum(DELIVERY_LIMIT);
    let mut set = |name: &str, value: &str| {
        arguments.insert(name.into(), AMQPValue::LongString(value.into()));
    };
    set("x-dead-letter-exchange", DEAD_LETTER);
    // Without these two a dead letter can be lost on its way (the default is at-most-once).
    set("x-dead-letter-strategy", "at-least-once");
    set("x-overflow", "reject-publish");
    arguments
}

fn dead_letter_arguments() -> FieldTable {
    quorum(DEAD_LETTER_DELIVERY_LIMIT)
}

fn quorum(delivery_limit: i32) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    arguments.insert(
        "x-delivery-limit".into(),
        AMQPValue::LongInt(delivery_limit),
    );
    arguments
}
