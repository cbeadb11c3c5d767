//! Marks all that a user has, in steps: a job that marked everything would keep everybody's writes
//! waiting for as long as that takes.

use contract::id::UserId;
use jiff::Timestamp;
use notifications::store::NotificationStore;
use sqlite::millis;
use sqlite::rusqlite::{self, Connection, OptionalExtension, params};
use stores::idempotency::LIFETIME;
use stores::{Idempotency, Once, StoreError};

use super::SqliteNotifications;
use super::lists::counter;
use super::marks::count_unread;

/// How many one job marks.
const MARKED_AT_ONCE: usize = 500;
/// Keys that are remembered of one user. Whoever sends more within their lifetime loses the oldest:
/// sent again, it marks what is unread then.
const MAX_KEYS: usize = 100;

/// Where a read-all with a key stands after a step.
enum Step {
    OtherBody,
    Marked {
        /// This step was the key's first.
        began: bool,
        /// In all steps.
        updated: u64,
        done: bool,
    },
}

impl SqliteNotifications {
    pub(super) async fn read_all(&self, user: &UserId) -> Result<u64, StoreError> {
        // What arrives meanwhile stays unread, so this ends.
        let up_to = self.counter(user).await?.sequence;
        let mut updated = 0;
        loop {
            let user = user.clone();
            let marked = self.database.write("set_all_read", move |connection| {
                mark_some(connection, &user, up_to)
            });
            let marked = marked.await?;
            updated += marked as u64;
            if marked < MARKED_AT_ONCE {
                return Ok(updated);
            }
        }
    }

    /// With a key, what is marked and what will be answered are one job. Whoever sends the key again,
    /// at the same moment or after a crash, takes part in the same read-all and gets the same answer.
    pub(super) async fn read_all_once(
        &self,
        user: &UserId,
        key: &Idempotency,
        now: Timestamp,
    ) -> Result<Once<u64, u64>, StoreError> {
        let mut began = false;
        loop {
            let (user, key) = (user.clone(), key.clone());
            let step = self.database.write("set_all_read", move |connection| {
                mark_some_once(connection, &user, &key, now)
            });
            match step.await? {
                Step::OtherBody => return Ok(Once::Mismatch),
                Step::Marked {
                    began: now,
                    updated,
                    done,
                } => {
                    began |= now;
                    match (done, began) {
                        (true, true) => return Ok(Once::New(updated)),
                        (true, false) => return Ok(Once::Before(updated)),
                        (false, _) => {}
                    }
                }
            }
        }
    }
}

fn mark_some_once(
    connection: &Connection,
    user: &UserId,
    idempotency: &Idempotency,
    now: Timestamp,
) -> rusqlite::Result<Step> {
    let (key, body) = (idempotency.key.to_hex(), idempotency.body.to_hex());
    let known: Option<(String, u64, u64, bool)> = connection
        .prepare_cached(
            "SELECT body, up_to, updated, done FROM answers
             WHERE user_id = ?1 AND key = ?2 AND at >= ?3",
        )?
        .query_row(params![user.as_str(), key, millis(now - LIFETIME)], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .optional()?;
    let began = known.is_none();
    let (up_to, before) = match known {
        Some((other, ..)) if other != body => return Ok(Step::OtherBody),
        Some((_, _, updated, true)) => {
            return Ok(Step::Marked {
                began,
                updated,
                done: true,
            });
        }
        Some((_, up_to, updated, false)) => (up_to, updated),
        None => (counter(connection, user)?.sequence, 0),
    };
    let marked = mark_some(connection, user, up_to)?;
    let (updated, done) = (before + marked as u64, marked < MARKED_AT_ONCE);
    connection
        .prepare_cached(
            "INSERT INTO answers VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT DO UPDATE SET body = ?3, at = iif(?8, ?4, at), up_to = ?5,
                 updated = ?6, done = ?7",
        )?
        .execute(params![
            user.as_str(),
            key,
            body,
            millis(now),
            up_to,
            updated,
            done,
            began
        ])?;
    connection
        .prepare_cached(
            "DELETE FROM answers WHERE user_id = ?1 AND key IN (
                 SELECT key FROM answers WHERE user_id = ?1 ORDER BY at DESC LIMIT -1 OFFSET ?2)",
        )?
        .execute(params![user.as_str(), MAX_KEYS])?;
    Ok(Step::Marked {
        began,
        updated,
        done,
    })
}

/// Marks some of the unread ones up to a sequence number; fewer than [`MARKED_AT_ONCE`] when none is
/// left.
fn mark_some(connection: &Connection, user: &UserId, up_to: u64) -> rusqlite::Result<usize> {
    let marked = connection
        .prepare_cached(
            "UPDATE notifications SET read = 1 WHERE id IN (
                 SELECT id FROM notifications
                 WHERE user_id = ?1 AND read = 0 AND sequence <= ?2 LIMIT ?3)",
        )?
        .execute(params![user.as_str(), up_to, MARKED_AT_ONCE])?;
    count_unread(connection, user, -(marked as i64))?;
    Ok(marked)
}
