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
    connection: BrokerConnection,
    channel: Channel,
}

impl Hinter {
    /// Sends a hint through `previous` if that still works, else through a new hinter, and returns the one
    /// that worked.
    pub(super) async fn hint(
        previous: Option<Self>,
        publishing: &Reconnecting,
        body: &[u8],
    ) -> Result<Self, BusError> {
        let hint = async {
            let hinter = match previous.filter(Self::is_usable) {
                Some(previous) => previous,
                None => Self::open(publishing).await?,
            };
            hinter.send(body).await?;
            Ok(hinter)
        };
        timeout(DEADLINE, hint)
            .await
            .map_err(|_| late("a hint", DEADLINE))?
    }

    async fn open(publishing: &Reconnecting) -> Result<Self, BusError> {
        let connection = BrokerConnection::connect(&publishing.uri, &publishing.topology).await?;
        let channel = channel(&connection).await?;
        Ok(Self {
            connection,
            channel,
        })
    }

    fn is_usable(&self) -> bool {
        self.connection.is_alive() && self.channel.status().connected()
    }

    async fn send(&self, body: &[u8]) -> Result<(), BusError> {
        // A hint is not worth waiting for the broker to have room again.
        if self.connection.is_blocked() {
            return Ok(());
        }
        let (options, transient) = (BasicPublishOptions::default(), BasicProperties::default());
        let channel = &self.channel;
        let sent = channel.basic_publish(EXCHANGE.into(), "".into(), options, body, transient);
        sent.await.map(drop).map_err(bus_error)
    }
}

struct Listener {
    connection: Arc<BrokerConnection>,
    /// Kept open: the consumer ends with its channel.
    _channel: Channel,
    hints: Consumer,
}

pub(super) async fn listen(
    connection: Arc<BrokerConnection>,
) -> Result<impl Hints + use<>, BusError> {
    let channel = channel(&connection).await?;
    let own = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..Default::default()
    };
    let mut bounded = FieldTable::default();
    bounded.insert("x-max-length".into(), AMQPValue::LongInt(MAX_WAITING));
    let queue = connection
        .call(channel.queue_declare("".into(), own, bounded))
        .await?;
    let (name, none) = (queue.name(), FieldTable::default);
    let options = QueueBindOptions::default();
    connection
        .call(channel.queue_bind(name.clone(), EXCHANGE.into(), "".into(), options, none()))
        .await?;
    let options = BasicConsumeOptions {
        no_ack: true,
        ..Default::default()
    };
    let hints = channel.basic_consume(name.clone(), "".into(), options, none());
    let hints = connection.call(hints).await?;
    Ok(Listener {
        connection,
        _channel: channel,
        hints,
    })
}

#[async_trait]
impl Hints for Listener {
    async fn next(&mut self) -> Result<Bytes, BusError> {
        let next = async { Ok(self.hints.next().await) };
        match self.connection.while_alive(next).await? {
            Some(Ok(delivery)) => Ok(delivery.data.into()),
            Some(Err(error)) => Err(bus_error(error)),
            None => Err(BusError::Unavailable("the listening was ended".into())),
        }
    }
}

/// A new channel, with the exchange declared.
async fn channel(connection: &BrokerConnection) -> Result<Channel, BusError> {
    let channel = connection.channel().await?;
    topology::exchange(connection, &channel, EXCHANGE, ExchangeKind::Fanout).await?;
    Ok(channel)
}
