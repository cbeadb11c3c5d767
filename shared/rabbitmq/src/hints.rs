//! Hints: a fanout exchange, and an exclusive queue of each listener that ends with its connection.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use events::bus::{BusError, Hints};
use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Consumer, ExchangeKind};
use tokio::time::timeout;

use super::connection::BrokerConnection;
use super::error::{bus_error, late};
use super::reconnecting::Reconnecting;
use super::topology;

const EXCHANGE: &str = "hints";
/// Hints that wait for a slow listener; beyond it the oldest are dropped.
const MAX_WAITING: i32 = 1_000;
/// The longest that sending a hint may take, a new connection included.
const DEADLINE: Duration = Duration::from_secs(1);

/// A channel without confirms, on a connection of its own: a broker that is short of memory stops reading
/// from connections that publish, and it must go on reading the acknowledgements of consumers.
pub(super) struct Hinter {
    link: BrokerConnection,
    channel: Channel,
}

impl Hinter {
    /// Sends a hint through `usual` if that still works, else through a new hinter, and returns the one
    /// that worked.
    pub(super) async fn hint(
        usual: Option<Self>,
        line: &Reconnecting,
        body: &[u8],
    ) -> Result<Self, BusError> {
        let hint = async {
            let hinter = match usual.filter(Self::is_usable) {
                Some(usual) => usual,
                None => Self::open(line).await?,
            };
            hinter.send(body).await?;
            Ok(hinter)
        };
        timeout(DEADLINE, hint)
            .await
            .map_err(|_| late("a hint", DEADLINE))?
    }

    async fn open(line: &Reconnecting) -> Result<Self, BusError> {
        let link = BrokerConnection::connect(&line.uri, &line.topology).await?;
        let channel = channel(&link).await?;
        Ok(Self { link, channel })
    }

    fn is_usable(&self) -> bool {
        self.link.is_alive() && self.channel.status().connected()
    }

    async fn send(&self, body: &[u8]) -> Result<(), BusError> {
        // A hint is not worth waiting for the broker to have room again.
        if self.link.is_blocked() {
            return Ok(());
        }
        let (options, transient) = (BasicPublishOptions::default(), BasicProperties::default());
        let channel = &self.channel;
        let sent = channel.basic_publish(EXCHANGE.into(), "".into(), options, body, transient);
        sent.await.map(drop).map_err(bus_error)
    }
}

struct Listener {
    link: Arc<BrokerConnection>,
    /// The consumer ends with it.
    _channel: Channel,
    hints: Consumer,
}

pub(super) async fn listen(link: Arc<BrokerConnection>) -> Result<impl Hints + use<>, BusError> {
    let channel = channel(&link).await?;
    let own = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..Default::default()
    };
    let mut bounded = FieldTable::default();
    bounded.insert("x-max-length".into(), AMQPValue::LongInt(MAX_WAITING));
    let queue = link
        .call(channel.queue_declare("".into(), own, bounded))
        .await?;
    let (name, none) = (queue.name(), FieldTable::default);
    let options = QueueBindOptions::default();
    link.call(channel.queue_bind(name.clone(), EXCHANGE.into(), "".into(), options, none()))
        .await?;
    let options = BasicConsumeOptions {
        no_ack: true,
        ..Default::default()
    };
    let hints = channel.basic_consume(name.clone(), "".into(), options, none());
    let hints = link.call(hints).await?;
    Ok(Listener {
        link,
        _channel: channel,
        hints,
    })
}

#[async_trait]
impl Hints for Listener {
    async fn next(&mut self) -> Result<Bytes, BusError> {
        let next = async { Ok(self.hints.next().await) };
        match self.link.while_alive(next).await? {
            Some(Ok(delivery)) => Ok(delivery.data.into()),
            Some(Err(error)) => Err(bus_error(error)),
            None => Err(BusError::Unavailable("the listening was ended".into())),
        }
    }
}

/// With the exchange declared.
async fn channel(link: &BrokerConnection) -> Result<Channel, BusError> {
    let channel = link.channel().await?;
    topology::exchange(link, &channel, EXCHANGE, ExchangeKind::Fanout).await?;
    Ok(channel)
}
