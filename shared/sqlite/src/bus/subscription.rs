//! Reads and acknowledges the messages of queues for one consumer.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use events::bus::{BusError, Delivery, Queue, Subscription};
use runtime::time::{Clock, SystemClock};
use rusqlite::{Connection, OptionalExtension, params};

use super::delivery::{DeliveryState, unavailable};
use crate::{Database, millis, rusqlite};

/// A subscription of one consumer.
pub(super) struct EmbeddedSubscription {
    database: Database,
    delivery: Arc<DeliveryState>,
    queues: Vec<&'static str>,
    prefetch: usize,
    unacknowledged: BTreeMap<i64, &'static str>,
}

/// What to read from one queue.
struct Read {
    queue: &'static str,
    put_back: Vec<i64>,
    /// Read new messages after this id.
    after: i64,
}

impl EmbeddedSubscription {
    pub(super) fn new(
        database: Database,
        delivery: Arc<DeliveryState>,
        queues: &[Queue],
        prefetch: u16,
    ) -> Self {
        Self {
            database,
            delivery,
            queues: queues.iter().map(|queue| queue.name).collect(),
            prefetch: prefetch.into(),
            unacknowledged: BTreeMap::new(),
        }
    }

    /// The messages that can be delivered now, at most `max`. They are read first and claimed afterwards, all
    /// at once: a message that another subscription claimed in between is left to it, and a call that is
    /// dropped while it reads has claimed nothing.
    async fn receive(&mut self, max: usize) -> Result<Vec<Delivery>, BusError> {
        // A different queue comes first each time, so that none is always last.
        self.queues.rotate_left(1);
        let reads: Vec<Read> = {
            let mut queues = self.delivery.queues();
            let read = |queue: &&'static str| {
                let state = queues.entry(queue).or_default();
                Read {
                    queue,
                    put_back: state.put_back.iter().copied().take(max).collect(),
                    after: state.delivered,
                }
            };
            self.queues.iter().map(read).collect()
        };
        let found = self.database.read("take messages", move |connection| {
            let mut room = max;
            let mut found = Vec::with_capacity(reads.len());
            for mut read in reads {
                read.put_back.truncate(room);
                let messages = read_messages(connection, &read, room)?;
                room -= messages.len();
                found.push((read, messages));
            }
            Ok(found)
        });
        let found = found.await.map_err(unavailable)?;
        let delivery = self.delivery.clone();
        let mut queues = delivery.queues();
        let mut deliveries = Vec::new();
        for (read, messages) in found {
            let state = queues.entry(read.queue).or_default();
            for id in read.put_back {
                // A message that was acknowledged before it was put back no longer exists.
                if !messages.iter().any(|(found, _)| *found == id) {
                    state.put_back.remove(&id);
                }
            }
            for (id, body) in messages {
                let redelivered = state.put_back.remove(&id);
                if !redelivered && id <= state.delivered {
                    continue;
                }
                state.delivered = state.delivered.max(id);
                self.unacknowledged.insert(id, read.queue);
                deliveries.push(Delivery {
                    body: Bytes::from(body),
                    queue: read.queue,
                    redelivered,
                    tag: id.unsigned_abs(),
                });
            }
        }
        Ok(deliveries)
    }
}

/// At most `room` messages of a queue: first those that were put back, then new ones.
fn read_messages(
    connection: &Connection,
    read: &Read,
    room: usize,
) -> rusqlite::Result<Vec<(i64, String)>> {
    let mut messages = Vec::new();
    let mut by_id = connection.prepare_cached("SELECT id, body FROM messages WHERE id = ?1")?;
    for id in &read.put_back {
        messages.extend(by_id.query_row([id], message).optional()?);
    }
    let mut next = connection.prepare_cached(
        "SELECT id, body FROM messages WHERE queue = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
    )?;
    let rest = room - messages.len();
    for message in next.query_map(params![read.queue, read.after, rest], message)? {
        messages.push(message?);
    }
    Ok(messages)
}

fn message(row: &rusqlite::Row<'_>) -> rusqlite::Result<(i64, String)> {
    Ok((row.get(0)?, row.get(1)?))
}

#[async_trait]
impl Subscription for EmbeddedSubscription {
    async fn next_batch(&mut self, max: usize) -> Result<Vec<Delivery>, BusError> {
        loop {
            let delivery = self.delivery.clone();
            let mut arrived = std::pin::pin!(delivery.arrived.notified());
            // Registered before the first look, so that no arrival is missed.
            arrived.as_mut().enable();
            let room = self.prefetch.saturating_sub(self.unacknowledged.len());
            let deliveries = self.receive(max.min(room)).await?;
            if !deliveries.is_empty() {
                return Ok(deliveries);
            }
            arrived.await;
        }
    }

    async fn ack(&mut self, deliveries: &[Delivery]) -> Result<(), BusError> {
        let tags = deliveries.iter().map(|delivery| delivery.tag);
        let ids: Vec<i64> = tags.map(u64::cast_signed).collect();
        let rows = ids.clone();
        let removed = self.database.write("acknowledge", move |connection| {
            let mut remove = connection.prepare_cached("DELETE FROM messages WHERE id = ?1")?;
            rows.iter()
                .try_for_each(|id| remove.execute([id]).map(drop))
        });
        removed.await.map_err(unavailable)?;
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

/// Puts back what is not acknowledged.
impl Drop for EmbeddedSubscription {
    fn drop(&mut self) {
        let mut queues = self.delivery.queues();
        for (id, queue) in std::mem::take(&mut self.unacknowledged) {
            queues.entry(queue).or_default().put_back.insert(id);
        }
        drop(queues);
        self.delivery.arrived.notify_waiters();
    }
}
