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
const IN_THE_MAKING: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);

/// Declares everything. A missing queue is recorded as lost before it is declared, and an existing queue
/// is only bound, so the refiller knows of every queue that was missing. Uses channels of its own, because
/// the broker closes a channel when it refuses something.
pub(super) async fn declare(link: &BrokerConnection) -> Result<(), BusError> {
    let channel = link.channel().await?;
    // The dead-letter exchange first: no message may find it missing.
    exchange(link, &channel, DEAD_LETTER, ExchangeKind::Fanout).await?;
    queue(link, &channel, DEAD_LETTER, dead_letter_arguments()).await?;
    bind(link, &channel, DEAD_LETTER, DEAD_LETTER, "").await?;
    let lost = lost(link).await?;
    for (from, losses) in LOSSES {
        queue(link, &channel, losses, dead_letter_arguments()).await?;
        for one in lost.iter().filter(|lost| lost.exchange() == from) {
            tell(link, losses, *one).await?;
        }
        exchange(link, &channel, from, ExchangeKind::Topic).await?;
    }
    for one in &lost {
        queue(link, &channel, one.name, arguments()).await?;
    }
    for one in link.queues() {
        let (from, key) = (one.exchange(), one.event_type.as_str());
        bind(link, &channel, one.name, from, key).await?;
    }
    link.call(channel.close(200, "done".into())).await
}

/// Refuses queues that exist with other arguments. Only for a new connection: a queue that was deleted
/// since [`declare`] would be declared here without a record of its loss.
pub(super) async fn check(link: &BrokerConnection) -> Result<(), BusError> {
    let channel = link.channel().await?;
    for one in link.queues() {
        queue(link, &channel, one.name, arguments()).await?;
    }
    link.call(channel.close(200, "done".into())).await
}

/// The queues that may have lost messages: those that are missing, and all queues of an exchange that is
/// missing itself or whose queue of losses is.
async fn lost(link: &BrokerConnection) -> Result<Vec<Queue>, BusError> {
    let mut lost = Vec::new();
    let mut asking = Asking {
        link,
        channel: link.channel().await?,
    };
    for (from, losses) in LOSSES {
        let whole = asking.has_exchange(from).await? && asking.has_queue(losses).await?;
        for one in link.queues().iter().filter(|one| one.exchange() == from) {
            if !whole || !asking.has_queue(one.name).await? {
                lost.push(*one);
            }
        }
    }
    link.call(asking.channel.close(200, "done".into())).await?;
    Ok(lost)
}

/// Records a loss for the refiller. See [`events::bus::refill`].
async fn tell(link: &BrokerConnection, losses: &str, lost: Queue) -> Result<(), BusError> {
    let channel = link.channel().await?;
    link.call(channel.confirm_select(ConfirmSelectOptions::default()))
        .await?;
    let mandatory = BasicPublishOptions {
        mandatory: true,
        ..Default::default()
    };
    let body = Loss::of(lost, Timestamp::now()).to_json();
    let until = Instant::now() + IN_THE_MAKING;
    loop {
        let persistent = message::persistent();
        let told = channel.basic_publish("".into(), losses.into(), mandatory, &body, persistent);
        let told = link.call(async { told.await?.await }).await?;
        if told.is_ack() && told.take_message().is_none() {
            break;
        }
        if Instant::now() > until {
            let why = format!("the queue `{losses}` takes nothing");
            return Err(BusError::Unavailable(why.into()));
        }
        sleep(PAUSE).await;
    }
    link.call(channel.close(200, "done".into())).await
}

/// Passive declarations: if the thing does not exist, the broker closes the channel and nothing else.
struct Asking<'l> {
    link: &'l BrokerConnection,
    channel: Channel,
}

impl Asking<'_> {
    async fn has_queue(&mut self, name: &str) -> Result<bool, BusError> {
        let (passive, none) = (
            QueueDeclareOptions::default().passive(),
            FieldTable::default(),
        );
        let asked = self.channel.queue_declare(name.into(), passive, none);
        let there = self.link.is_there(asked).await?;
        self.go_on(there).await
    }

    async fn has_exchange(&mut self, name: &str) -> Result<bool, BusError> {
        let passive = ExchangeDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let (kind, none) = (ExchangeKind::Topic, FieldTable::default());
        let asked = self
            .channel
            .exchange_declare(name.into(), kind, passive, none);
        let there = self.link.is_there(asked).await?;
        self.go_on(there).await
    }

    async fn go_on(&mut self, there: bool) -> Result<bool, BusError> {
        if !there {
            self.channel = self.link.channel().await?;
        }
        Ok(there)
    }
}

pub(super) async fn exchange(
    link: &BrokerConnection,
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
    link: &BrokerConnection,
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
    link: &BrokerConnection,
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
