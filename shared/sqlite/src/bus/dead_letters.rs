//! Moves rows from the dead letters to their queues, in one transaction.

use async_trait::async_trait;
use events::bus::BusError;
use events::bus::dead_letters::{DeadLetter, DeadLetters, Redrive, Redriven};
use rusqlite::params;

use super::EmbeddedBus;
use super::delivery::unavailable;
use crate::rusqlite;

#[async_trait]
impl DeadLetters for EmbeddedBus {
    async fn redrive(
        &self,
        redrive: &Redrive,
        seen: &mut (dyn for<'l> FnMut(&'l DeadLetter) + Send),
    ) -> Result<Redriven, BusError> {
        let (redrive, topology) = (*redrive, self.topology.clone());
        let moved = self.database.write("redrive", move |connection| {
            let (mut done, mut letters) = (Redriven::default(), Vec::new());
            let mut select = connection
                .prepare_cached("SELECT id, queue, body, reason FROM dead_letters ORDER BY id")?;
            let mut rows = select.query([])?;
            while done.moved < redrive.limit
                && let Some(row) = rows.next()?
            {
                let body: String = row.get("body")?;
                let letter = DeadLetter {
                    queue: row.get("queue")?,
                    event_id: event_id(&body),
                    reason: row.get("reason")?,
                };
                let Some(queue) = redrive.selects(&topology, &letter) else {
                    done.left += 1;
                    continue;
                };
                done.moved += 1;
                letters.push(letter);
                if !redrive.dry_run {
                    connection
                        .prepare_cached("INSERT INTO messages (queue, body) VALUES (?1, ?2)")?
                        .execute(params![queue.name, body])?;
                    connection
                        .prepare_cached("DELETE FROM dead_letters WHERE id = ?1")?
                        .execute([row.get::<_, i64>("id")?])?;
                }
            }
            Ok((done, letters))
        });
        let (done, letters) = moved.await.map_err(unavailable)?;
        self.delivery.arrived.notify_waiters();
        for letter in &letters {
            seen(letter);
        }
        Ok(done)
    }
}

fn event_id(body: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Named {
        id: String,
    }
    serde_json::from_str(body).map_or(String::new(), |Named { id }| id)
}
