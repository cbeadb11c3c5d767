//! RabbitMQ behind the [`Bus`] port.
//!
//! There are three connections: for consuming and questions, for publishing, and for hints. A broker that
//! is short of memory or disk stops reading from connections that publish, and it must go on reading
//! acknowledgements, or its queues never empty. Each connection is made when first needed, and anew after
//! any error on it or its channels. The driver's own recovery is off, so an unconfirmed message always
//! counts as unpublished and an unacknowledged one is always delivered again. A new connection of the
//! first two kinds declares the whole topology.

mod connection;
mod dead_letters;
mod error;
mod hints;
mod message;
mod publisher;
mod reconnecting;
mod refill;
mod subscription;
mod topology;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use contract::event::Envelope;
use events::bus::{
    Bus, BusError, DEAD_LETTER, Hints, PublishOutcome, Queue, Subscription, Topology,
};
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::uri::AMQPUri;
use runtime::env::Vars;
use runtime::secret::Secret;
use tokio::sync::Mutex;
use tokio::time::timeout;

use self::connection::BrokerConnection;
use self::error::late;
use self::hints::Hinter;
use self::publisher::Publisher;
use self::reconnecting::Reconnecting;

/// How long a ping may take, the connection included.
const PING_DEADLINE: Duration = Duration::from_secs(1);
/// Seconds between heartbeats; a peer that is silent for two of them is gone.
const HEARTBEAT_SECONDS: u16 = 10;

/// Reads `AMQP_URL`. `None` means that an error was recorded.
pub fn url(vars: &mut Vars<'_>) -> Option<Secret> {
    vars.required("AMQP_URL", |text| parse(text).map(|_| Secret::new(text)))
}

/// RabbitMQ, of any version from 3.10.
pub struct RabbitBus {
    consuming: Reconnecting,
    publishing: Arc<Reconnecting>,
    /// Locked for a whole batch, so batches never mix on the channel.
    publisher: Mutex<Option<Publisher>>,
    hinter: Mutex<Option<Hinter>>,
}

impl RabbitBus {
    /// Does not connect yet. The error is one line without the password.
    pub fn new(url: &Secret, topology: Topology) -> Result<Self, String> {
        let uri = parse(url.expose())?;
        Ok(Self {
            consuming: Reconnecting::new(uri.clone(), topology.clone()),
            publishing: Arc::new(Reconnecting::new(uri, topology)),
            publisher: Mutex::new(None),
            hinter: Mutex::new(None),
        })
    }

    /// The connection for consuming and questions.
    async fn connection(&self) -> Result<Arc<BrokerConnection>, BusError> {
        self.consuming.connection().await
    }
}

#[async_trait]
impl Bus for RabbitBus {
    fn name(&self) -> &'static str {
        "rabbitmq"
    }

    fn topology(&self) -> &Topology {
        &self.consuming.topology
    }

    async fn publish(&self, batch: &[Envelope]) -> Result<Vec<PublishOutcome>, BusError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let mut slot = self.publisher.lock().await;
        // Taken out of the slot: if this future is dropped half-way, the channel is never used again.
        let publisher = match slot.take().filter(Publisher::is_usable) {
            Some(publisher) => publisher,
            None => Publisher::open(self.publishing.connection().await?).await?,
        };
        let outcomes = publisher.publish(batch).await?;
        *slot = Some(publisher);
        Ok(outcomes)
    }

    async fn subscribe(
        &self,
        queues: &[Queue],
        prefetch: u16,
    ) -> Result<Box<dyn Subscription>, BusError> {
        let connection = self.connection().await?;
        let names: Vec<_> = queues.iter().map(|queue| queue.name).collect();
        let subscription =
            subscription::open(connection, self.publishing.clone(), &names, prefetch).await?;
        Ok(Box::new(subscription))
    }

    async fn hint(&self, body: Bytes) -> Result<(), BusError> {
        let mut slot = self.hinter.lock().await;
        let previous = slot.take();
        *slot = Some(Hinter::hint(previous, &self.publishing, &body).await?);
        Ok(())
    }

    async fn hints(&self) -> Result<Box<dyn Hints>, BusError> {
        Ok(Box::new(hints::listen(self.connection().await?).await?))
    }

    async fn dead_letters(&self) -> Result<u64, BusError> {
        let connection = self.connection().await?;
        let channel = connection.channel().await?;
        let passive = QueueDeclareOptions::default().passive();
        let queue = channel.queue_declare(DEAD_LETTER.into(), passive, FieldTable::default());
        let count = connection.call(queue).await?.message_count().into();
        connection.call(channel.close(200, "done".into())).await?;
        Ok(count)
    }

    async fn ping(&self) -> Result<(), BusError> {
        // Only a healthy broker opens a new channel. One that is short of memory does so too, on this
        // connection; the outbox's own metrics show what waits to be published.
        let ping = async { self.connection().await?.channel().await.map(drop) };
        timeout(PING_DEADLINE, ping)
            .await
            .map_err(|_| late("a ping", PING_DEADLINE))?
    }
}

/// An error never repeats the text, because it holds a password.
fn parse(text: &str) -> Result<AMQPUri, String> {
    const EXAMPLE: &str = "it looks like amqp://USER:PASSWORD@HOST:5672/%2f";
    let mut uri: AMQPUri = text
        .parse()
        .map_err(|why| format!("not a usable URL ({why}); {EXAMPLE}"))?;
    if uri.vhost.len() > 255 {
        return Err(format!("the virtual host's name is too long; {EXAMPLE}"));
    }
    uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_url_is_one_line_that_hides_the_password() {
        for url in [
            "",
            "http://u:hidden@h",
            "amqp//u:hidden@h",
            "amqp://u:hidden@h:99999/",
        ] {
            let why = RabbitBus::new(&Secret::new(url), Topology::of(&[]))
                .err()
                .expect(url);
            assert!(
                why.contains("amqp://USER:PASSWORD@HOST") && !why.contains('\n'),
                "{why}"
            );
            assert!(!why.contains("hidden"), "{why}");
        }
        let url = Secret::new("amqp://u:p@h:5672/%2f");
        assert!(RabbitBus::new(&url, Topology::of(&[])).is_ok());
    }
}
