//! The exchanges and queues. Every process declares them in the same way, any number of times.
//!
//! All queues are durable quorum queues with arguments that RabbitMQ 3.10 to 4.x understand alike.
//! Arguments cannot be changed later: a queue that was declared with others is a clear error.

use std::time::Duration;

use events::bus::refill::{LOSSES, Loss};
use events::bus::{BusError, DEAD_LETTER, Queue};
use jiff::Timestamp;
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};
use tokio::time::{Instant, sleep};

use super::connection::BrokerConnection;
use super::message;

/// How often a message is delivered before the broker itself moves it to the dead letters. High, because
/// every crash of a consumer counts against all messages that it held.
const DELIVERY_LIMIT: i32 = 1_000;
/// In effect no limit, because nothing catches what the dead-letter queue drops. (Without a limit
/// RabbitMQ 4 applies its own, 20.)
const DEAD_LETTER_DELIVERY_LIMIT: i32 = 1_000_000;
/// How long a queue that another process is just declaring may exist before it accepts messages.
const DECLARED_WITHIN: Duration = Duration::from_secs(2);
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Declares everything. A missing queue is recorded as lost before it is declared, and an existing queue
/// is only bound, so the refiller knows of every queue that was missing. Uses channels of its own, because
/// the broker closes a channel when it refuses something.
pub(super) async fn declare(connection: &BrokerConnection) -> Result<(), BusError> {
    let channel = connection.channel().await?;
    // The dead-letter exchange first: no message may find it missing.
    exchange(connection, &channel, DEAD_LETTER, ExchangeKind::Fanout).await?;
    queue(connection, &channel, DEAD_LETTER, dead_letter_arguments()).await?;
    bind(connection, &channel, DEAD_LETTER, DEAD_LETTER, "").await?;
    let lost = lost(connection).await?;
    for (from, losses) in LOSSES {
        queue(connection, &channel, losses, dead_letter_arguments()).await?;
        for lost in lost.iter().filter(|lost| lost.exchange() == from) {
            record_loss(connection, losses, *lost).await?;
        }
        exchange(connection, &channel, from, ExchangeKind::Topic).await?;
    }
    for lost in &lost {
        queue(connection, &channel, lost.name, queue_arguments()).await?;
    }
    for known in connection.queues() {
        let (from, key) = (known.exchange(), known.event_type.as_str());
        bind(connection, &channel, known.name, from, key).await?;
    }
    connection.call(channel.close(200, "done".into())).await
}

/// Refuses queues that exist with other arguments. Only for a new connection: a queue that was deleted
/// since [`declare`] would be declared here without a record of its loss.
pub(super) async fn check(connection: &BrokerConnection) -> Result<(), BusError> {
    let channel = connection.channel().await?;
    for known in connection.queues() {
        queue(connection, &channel, known.name, queue_arguments()).await?;
    }
    connection.call(channel.close(200, "done".into())).await
}

/// The queues that may have lost messages: those that are missing, and all queues of an exchange that is
/// missing itself or whose queue of losses is.
async fn lost(connection: &BrokerConnection) -> Result<Vec<Queue>, BusError> {
    let mut lost = Vec::new();
    let mut existing = Existing {
        connection,
        channel: connection.channel().await?,
    };
    for (from, losses) in LOSSES {
        let complete = existing.has_exchange(from).await? && existing.has_queue(losses).await?;
        let fed = |queue: &&Queue| queue.exchange() == from;
        for queue in connection.queues().iter().filter(fed) {
            if !complete || !existing.has_queue(queue.name).await? {
                lost.push(*queue);
            }
        }
    }
    connection
        .call(existing.channel.close(200, "done".into()))
        .await?;
    Ok(lost)
}

/// Records a loss for the refiller. See [`events::bus::refill`].
async fn record_loss(
    connection: &BrokerConnection,
    losses: &str,
    lost: Queue,
) -> Result<(), BusError> {
    let channel = connection.channel().await?;
    connection
        .call(channel.confirm_select(ConfirmSelectOptions::default()))
        .await?;
    let mandatory = BasicPublishOptions {
        mandatory: true,
        ..Default::default()
    };
    let body = Loss::of(lost, Timestamp::now()).to_json();
    let until = Instant::now() + DECLARED_WITHIN;
    loop {
        let persistent = message::persistent();
        let sent = channel.basic_publish("".into(), losses.into(), mandatory, &body, persistent);
        let confirmation = connection.call(async { sent.await?.await }).await?;
        if confirmation.is_ack() && confirmation.take_message().is_none() {
            break;
        }
        if Instant::now() > until {
            let why = format!("the queue `{losses}` takes nothing");
            return Err(BusError::Unavailable(why.into()));
        }
        sleep(RETRY_PAUSE).await;
    }
    connection.call(channel.close(200, "done".into())).await
}

/// What exists on the broker, found by passive declarations. If the queue or exchange is missing, the broker
/// closes the channel and nothing else.
struct Existing<'c> {
    connection: &'c BrokerConnection,
    channel: Channel,
}

impl Existing<'_> {
    async fn has_queue(&mut self, name: &str) -> Result<bool, BusError> {
        let (passive, none) = (
            QueueDeclareOptions::default().passive(),
            FieldTable::default(),
        );
        let declaration = self.channel.queue_declare(name.into(), passive, none);
        let exists = self.connection.exists(declaration).await?;
        self.reopen_unless(exists).await
    }

    async fn has_exchange(&mut self, name: &str) -> Result<bool, BusError> {
        let passive = ExchangeDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let (kind, none) = (ExchangeKind::Topic, FieldTable::default());
        let declaration = self
            .channel
            .exchange_declare(name.into(), kind, passive, none);
        let exists = self.connection.exists(declaration).await?;
        self.reopen_unless(exists).await
    }

    /// Opens a new channel if the broker closed the last one.
    async fn reopen_unless(&mut self, exists: bool) -> Result<bool, BusError> {
        if !exists {
            self.channel = self.connection.channel().await?;
        }
        Ok(exists)
    }
}

pub(super) async fn exchange(
    connection: &BrokerConnection,
    channel: &Channel,
    name: &str,
    kind: ExchangeKind,
) -> Result<(), BusError> {
    let options = ExchangeDeclareOptions {
        durable: true,
        ..Default::default()
    };
    connection
        .call(channel.exchange_declare(name.into(), kind, options, FieldTable::default()))
        .await
        .map_err(|error| refused("exchange", name, error))
}

async fn queue(
    connection: &BrokerConnection,
    channel: &Channel,
    name: &str,
    arguments: FieldTable,
) -> Result<(), BusError> {
    connection
        .call(channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments))
        .await
        .map(drop)
        .map_err(|error| refused("queue", name, error))
}

async fn bind(
    connection: &BrokerConnection,
    channel: &Channel,
    queue: &str,
    exchange: &str,
    key: &str,
) -> Result<(), BusError> {
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    connection
        .call(channel.queue_bind(queue.into(), exchange.into(), key.into(), options, none))
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

fn queue_arguments() -> FieldTable {
    let mut arguments = quorum_arguments(DELIVERY_LIMIT);
    let mut set = |name: &str, value: &str| {
        arguments.insert(name.into(), AMQPValue::LongString(value.into()));
    };
    set("x-dead-letter-exchange", DEAD_LETTER);
    // Without these two the broker may lose a message on its way to the dead letters (its default is
    // at-most-once).
    set("x-dead-letter-strategy", "at-least-once");
    set("x-overflow", "reject-publish");
    arguments
}

fn dead_letter_arguments() -> FieldTable {
    quorum_arguments(DEAD_LETTER_DELIVERY_LIMIT)
}

fn quorum_arguments(delivery_limit: i32) -> FieldTable {
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
