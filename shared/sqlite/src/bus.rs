//! Queues in an SQLite file, for a platform in one process. A confirmed message survives `kill -9`, as it
//! does in a durable queue of a broker.
//!
//! A message is a row from its publish until its acknowledgement. Which messages are delivered and not yet
//! acknowledged is known in memory only, so after a start everything is delivered again.

mod dead_letters;
mod delivery;
mod subscription;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use contract::event::Envelope;
use events::bus::{Bus, BusError, Hints, PublishOutcome, Queue, Subscription, Topology};
use rusqlite::{Connection, params};
use stores::StoreError;
use tokio::sync::broadcast;

use self::delivery::{DeliveryState, unavailable};
use self::subscription::EmbeddedSubscription;
use crate::{Database, OpenError, rusqlite, to_json};

const SCHEMA: &str = "
    CREATE TABLE messages (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        queue TEXT NOT NULL,
        body TEXT NOT NULL
    ) STRICT;
    CREATE INDEX messages_of_queue ON messages (queue, id);
    CREATE TABLE dead_letters (
        id INTEGER PRIMARY KEY,
        queue TEXT NOT NULL,
        body TEXT NOT NULL,
        reason TEXT NOT NULL,
        at INTEGER NOT NULL
    ) STRICT;
";
/// The most messages in all queues together. Beyond it nothing is confirmed, and events stay in their outbox.
const MAX_MESSAGES: u64 = 1_000_000;
/// The most hints that wait for a slow listener. A listener that lags further gets an error.
const MAX_HINTS: usize = 1_000;

/// The bus of a process. All its parts share one.
pub struct EmbeddedBus {
    database: Database,
    topology: Topology,
    max_messages: u64,
    delivery: Arc<DeliveryState>,
    hints: broadcast::Sender<Bytes>,
}

/// The number of messages in the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Published and not acknowledged.
    pub messages: u64,
    pub dead_letters: u64,
}

impl EmbeddedBus {
    /// Opens the file, or makes it if it is missing. It must belong to this process alone.
    pub fn open(path: &Path, topology: Topology) -> Result<Self, OpenError> {
        Ok(Self {
            database: Database::open(path, &[SCHEMA])?,
            topology,
            max_messages: MAX_MESSAGES,
            delivery: Arc::default(),
            hints: broadcast::Sender::new(MAX_HINTS),
        })
    }

    /// Sets a smaller maximum of messages, for tests.
    #[must_use]
    pub fn with_max_messages(self, max_messages: u64) -> Self {
        Self {
            max_messages,
            ..self
        }
    }

    pub async fn counts(&self) -> Result<Counts, StoreError> {
        self.database
            .read("count messages", |connection| {
                let count = |table: &str| {
                    let statement = format!("SELECT count(*) FROM {table}");
                    connection.query_row(&statement, [], |row| row.get(0))
                };
                Ok(Counts {
                    messages: count("messages")?,
                    dead_letters: count("dead_letters")?,
                })
            })
            .await
    }
}

struct Listener(broadcast::Receiver<Bytes>);

#[async_trait]
impl Hints for Listener {
    async fn next(&mut self) -> Result<Bytes, BusError> {
        let next = self.0.recv().await;
        next.map_err(|missed| BusError::Unavailable(missed.into()))
    }
}

#[async_trait]
impl Bus for EmbeddedBus {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn topology(&self) -> &Topology {
        &self.topology
    }

    async fn publish(&self, batch: &[Envelope]) -> Result<Vec<PublishOutcome>, BusError> {
        let (batch, topology, max) = (batch.to_vec(), self.topology.clone(), self.max_messages);
        let published = self.database.write("publish", move |connection| {
            // Ids ascend and queues are emptied from the front, so the span from the first id to the last is
            // at least the number of messages, and hardly more.
            let mut room = connection
                .prepare_cached(
                    "SELECT coalesce(
                         (SELECT max(id) FROM messages) - (SELECT min(id) FROM messages) + 1, 0)",
                )?
                .query_row([], |row| row.get::<_, u64>(0))
                .map(|span| max.saturating_sub(span))?;
            let mut outcomes = Vec::with_capacity(batch.len());
            for event in &batch {
                outcomes.push(put(connection, &topology, event, &mut room)?);
            }
            Ok(outcomes)
        });
        let outcomes = published.await.map_err(unavailable)?;
        self.delivery.arrived.notify_waiters();
        Ok(outcomes)
    }

    async fn subscribe(
        &self,
        queues: &[Queue],
        prefetch: u16,
    ) -> Result<Box<dyn Subscription>, BusError> {
        Ok(Box::new(EmbeddedSubscription::new(
            self.database.clone(),
            self.delivery.clone(),
            queues,
            prefetch,
        )))
    }

    async fn hint(&self, body: Bytes) -> Result<(), BusError> {
        // An error means that there is no listener.
        self.hints.send(body).ok();
        Ok(())
    }

    async fn hints(&self) -> Result<Box<dyn Hints>, BusError> {
        Ok(Box::new(Listener(self.hints.subscribe())))
    }

    async fn dead_letters(&self) -> Result<u64, BusError> {
        Ok(self.counts().await.map_err(unavailable)?.dead_letters)
    }

    async fn ping(&self) -> Result<(), BusError> {
        self.database.ping().await.map_err(unavailable)
    }
}

/// Puts an event into every queue of its type, or into none.
fn put(
    connection: &Connection,
    topology: &Topology,
    event: &Envelope,
    room: &mut u64,
) -> rusqlite::Result<PublishOutcome> {
    let body = to_json(event)?;
    let queues = topology
        .queues()
        .iter()
        .filter(|queue| queue.event_type == event.event_type);
    let queues: Vec<_> = queues.collect();
    if queues.is_empty() {
        return Ok(PublishOutcome::Failed(format!(
            "no queue takes {}",
            event.event_type.as_str()
        )));
    }
    let Some(left) = room.checked_sub(queues.len() as u64) else {
        return Ok(PublishOutcome::Failed("the queues are full".to_owned()));
    };
    *room = left;
    for queue in queues {
        connection
            .prepare_cached("INSERT INTO messages (queue, body) VALUES (?1, ?2)")?
            .execute(params![queue.name, body])?;
    }
    Ok(PublishOutcome::Confirmed)
}
