//! Erasures in SQLite: one row for each erasure under way.

use async_trait::async_trait;
use events::consumer::Outcome;
use jiff::Timestamp;
use sqlite::millis;
use sqlite::rusqlite::{OptionalExtension, params};
use stores::StoreError;
use tasks::domain::Erasure;
use tasks::store::Erasures;

use super::SqliteTaskStore;
use super::rows::erasure;

#[async_trait]
impl Erasures for SqliteTaskStore {
    async fn note(&self, erasures: &[Erasure]) -> Result<Vec<Outcome>, StoreError> {
        let erasures = erasures.to_vec();
        self.database
            .write("store erasures", move |connection| {
                let mut insert = connection.prepare_cached(
                    "INSERT INTO erasures VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                )?;
                let mut outcomes = Vec::with_capacity(erasures.len());
                for Erasure {
                    user_id,
                    since,
                    due_at,
                } in &erasures
                {
                    let inserted = insert.execute(params![
                        user_id.as_str(),
                        millis(*since),
                        millis(*due_at)
                    ])?;
                    outcomes.push(match inserted {
                        0 => Outcome::Duplicate,
                        _ => Outcome::Applied,
                    });
                }
                Ok(outcomes)
            })
            .await
    }

    async fn due(&self, now: Timestamp) -> Result<Option<Erasure>, StoreError> {
        self.database
            .read("find erasure", move |connection| {
                connection
                    .prepare_cached(
                        "SELECT * FROM erasures WHERE due_at <= ?1 ORDER BY due_at LIMIT 1",
                    )?
                    .query_row([millis(now)], erasure)
                    .optional()
            })
            .await
    }

    async fn reschedule(
        &self,
        erasure: &Erasure,
        due_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let (user, read) = (erasure.user_id.clone(), millis(erasure.due_at));
        self.database
            .write("reschedule erasure", move |connection| {
                match due_at {
                    Some(due_at) => connection
                        .prepare_cached(
                            "UPDATE erasures SET due_at = ?3 WHERE user_id = ?1 AND due_at = ?2",
                        )?
                        .execute(params![user.as_str(), read, millis(due_at)])?,
                    None => connection
                        .prepare_cached("DELETE FROM erasures WHERE user_id = ?1 AND due_at = ?2")?
                        .execute(params![user.as_str(), read])?,
                };
                Ok(())
            })
            .await
    }
}
