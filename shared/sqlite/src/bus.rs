//! Queues in an SQLite file, for a platform in one process. A confirmed message survives `kill -9`, as it
//! does in a durable queue of a broker.
//!
//! A message is a row from its publish until its acknowledgement. Which messages are delivered and not yet
//! acknowledged is known in memory only, so after a start everything is delivered again.

mod dead_letters;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use contract::event::Envelope;
use events::bus::{Bus, BusError, Delivery, Hints, Outcome, Queue, Subscription, Topology};
use runtime::time::{Clock, SystemClock};
use rusqlite::{Connection, OptionalExtension, params};
use stores::StoreError;
use tokio::sync::{Notify, broadcast};

use crate::{Database, OpenError, millis, rusqlite, to_json};

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
/// The most hints that a listener may lag behind.
const MAX_HINTS: usize = 1_000;

/// The bus of a process. All its parts share one.
pub struct EmbeddedBus {
    database: Database,
    topology: Topology,
    max_messages: u64,
    shared: Arc<Shared>,
    hints: broadcast::Sender<Bytes>,
}

/// The number of messages in the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Published and not acknowledged.
    pub messages: u64,
    pub dead_letters: u64,
}

/// The state that subscriptions and publishers share.
#[derive(Default)]
struct Shared {
    queues: Mutex<HashMap<&'static str, InFlight>>,
    /// Notified when there may be something to deliver.
    arrived: Notify,
}

/// The progress of a queue's delivery.
#[derive(Default)]
struct InFlight {
    /// Every message up to this id was delivered at least once.
    delivered: i64,
    /// Messages that were delivered and put back; they are delivered before anything else.
    put_back: BTreeSet<i64>,
}

impl EmbeddedBus {
    /// Opens the file, and makes it where it is missing. It must be this process's alone.
    pub fn open(path: &Path, topology: Topology) -> Result<Self, OpenError> {
        Ok(Self {
            database: Database::open(path, &[SCHEMA])?,
            topology,
            max_messages: MAX_MESSAGES,
            shared: Arc::default(),
            hints: broadcast::Sender::new(MAX_HINTS),
        })
    }

    /// A bus that is full sooner, for tests.
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

impl Shared {
    fn queues(&self) -> MutexGuard<'_, HashMap<&'static str, InFlight>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
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

fn unavailable(error: StoreError) -> BusError {
    BusError::Unavailable(error.into())
}

#[async_trait]
impl Bus for EmbeddedBus {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn topology(&self) -> &Topology {
        &self.topology
    }

    async fn publish(&self, batch: &[Envelope]) -> Result<Vec<Outcome>, BusError> {
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
        self.shared.arrived.notify_waiters();
        Ok(outcomes)
    }

    async fn subscribe(
        &self,
        queues: &[Queue],
        prefetch: u16,
    ) -> Result<Box<dyn Subscription>, BusError> {
        Ok(Box::new(Taken {
            database: self.database.clone(),
            shared: self.shared.clone(),
            queues: queues.iter().map(|queue| queue.name).collect(),
            prefetch: prefetch.into(),
            unacknowledged: BTreeMap::new(),
        }))
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
) -> rusqlite::Result<Outcome> {
    let body = to_json(event)?;
    let queues = topology
        .queues()
        .iter()
        .filter(|queue| queue.event_type == event.event_type);
    let queues: Vec<_> = queues.collect();
    if queues.is_empty() {
        return Ok(Outcome::Failed(format!(
            "no queue takes {}",
            event.event_type.as_str()
        )));
    }
    let Some(left) = room.checked_sub(queues.len() as u64) else {
        return Ok(Outcome::Failed("the queues are full".to_owned()));
    };
    *room = left;
    for queue in queues {
        connection
            .prepare_cached("INSERT INTO messages (queue, body) VALUES (?1, ?2)")?
            .execute(params![queue.name, body])?;
    }
    Ok(Outcome::Confirmed)
}

/// Deliveries to one consumer.
struct Taken {
    database: Database,
    shared: Arc<Shared>,
    queues: Vec<&'static str>,
    prefetch: usize,
    unacknowledged: BTreeMap<i64, &'static str>,
}

/// What is asked of one queue.
struct Wanted {
    queue: &'static str,
    /// No more than are looked at.
    again: Vec<i64>,
    after: i64,
}

impl Taken {
    /// What is there now, at most `max`. Read first and claimed then, all at once: what another
    /// subscription has claimed in between is left to it, and whoever stops waiting has claimed
    /// nothing.
    async fn take(&mut self, max: usize) -> Result<Vec<Delivery>, BusError> {
        // No queue is always the last one.
        self.queues.rotate_left(1);
        let wanted: Vec<Wanted> = {
            let mut queues = self.shared.queues();
            let of = |queue: &&'static str| {
                let state = queues.entry(queue).or_default();
                Wanted {
                    queue,
                    again: state.put_back.iter().copied().take(max).collect(),
                    after: state.delivered,
                }
            };
            self.queues.iter().map(of).collect()
        };
        let read = self.database.read("take messages", move |connection| {
            let mut room = max;
            let mut found = Vec::with_capacity(wanted.len());
            for mut wanted in wanted {
                wanted.again.truncate(room);
                let messages = look(connection, &wanted, room)?;
                room -= messages.len();
                found.push((wanted, messages));
            }
            Ok(found)
        });
        let found = read.await.map_err(unavailable)?;
        let shared = self.shared.clone();
        let mut queues = shared.queues();
        let mut deliveries = Vec::new();
        for (wanted, messages) in found {
            let state = queues.entry(wanted.queue).or_default();
            for id in wanted.again {
                // It was acknowledged before it was put back, and is gone.
                if !messages.iter().any(|(there, _)| *there == id) {
                    state.put_back.remove(&id);
                }
            }
            for (id, body) in messages {
                let redelivered = state.put_back.remove(&id);
                if !redelivered && id <= state.delivered {
                    continue;
                }
                state.delivered = state.delivered.max(id);
                self.unacknowledged.insert(id, wanted.queue);
                deliveries.push(Delivery {
                    body: Bytes::from(body),
                    queue: wanted.queue,
                    redelivered,
                    tag: id.unsigned_abs(),
                });
            }
        }
        Ok(deliveries)
    }
}

/// At most `room` messages of a queue: first those that come again, then the next ones.
fn look(
    connection: &Connection,
    wanted: &Wanted,
    room: usize,
) -> rusqlite::Result<Vec<(i64, String)>> {
    let mut messages = Vec::new();
    let mut by_id = connection.prepare_cached("SELECT id, body FROM messages WHERE id = ?1")?;
    for id in &wanted.again {
        messages.extend(by_id.query_row([id], message).optional()?);
    }
    let mut next = connection.prepare_cached(
        "SELECT id, body FROM messages WHERE queue = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
    )?;
    let rest = room - messages.len();
    for one in next.query_map(params![wanted.queue, wanted.after, rest], message)? {
        messages.push(one?);
    }
    Ok(messages)
}

fn message(row: &rusqlite::Row<'_>) -> rusqlite::Result<(i64, String)> {
    Ok((row.get(0)?, row.get(1)?))
}

#[async_trait]
impl Subscription for Taken {
    async fn next_batch(&mut self, max: usize) -> Result<Vec<Delivery>, BusError> {
        loop {
            let shared = self.shared.clone();
            let mut arrived = std::pin::pin!(shared.arrived.notified());
            // Registered before the first look, so that no arrival is missed.
            arrived.as_mut().enable();
            let room = self.prefetch.saturating_sub(self.unacknowledged.len());
            let taken = self.take(max.min(room)).await?;
            if !taken.is_empty() {
                return Ok(taken);
            }
            arrived.await;
        }
    }

    async fn ack(&mut self, deliveries: &[Delivery]) -> Result<(), BusError> {
        let ids: Vec<i64> = deliveries.iter().map(|one| one.tag.cast_signed()).collect();
        let gone = ids.clone();
        let acknowledged = self.database.write("acknowledge", move |connection| {
            let mut remove = connection.prepare_cached("DELETE FROM messages WHERE id = ?1")?;
            gone.iter()
                .try_for_each(|id| remove.execute([id]).map(drop))
        });
        acknowledged.await.map_err(unavailable)?;
        for id in ids {
            self.unacknowledged.remove(&id);
        }
        Ok(())
    }

    async fn dead_letter(&mut self, delivery: &Delivery, reason: &str) -> Result<(), BusError> {
        let (id, reason) = (delivery.tag.cast_signed(), reason.to_owned());
        let at = millis(SystemClock.now());
        let moved = self.database.write("dead-letter", move |connection| {
            connection
                .prepare_cached(
                    "INSERT INTO dead_letters (queue, body, reason, at)
                     SELECT queue, body, ?2, ?3 FROM messages WHERE id = ?1",
                )?
                .execute(params![id, reason, at])?;
            connection
                .prepare_cached("DELETE FROM messages WHERE id = ?1")?
                .execute([id])?;
            Ok(())
        });
        moved.await.map_err(unavailable)?;
        self.unacknowledged.remove(&id);
        Ok(())
    }
}

/// Puts back what was not acknowledged.
impl Drop for Taken {
    fn drop(&mut self) {
        let mut queues = self.shared.queues();
        for (id, queue) in std::mem::take(&mut self.unacknowledged) {
            queues.entry(queue).or_default().put_back.insert(id);
        }
        drop(queues);
        self.shared.arrived.notify_waiters();
    }
}
