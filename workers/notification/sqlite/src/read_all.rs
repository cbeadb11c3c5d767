//! Marks all notifications of a user as read, in steps: one job for everything would hold up all
//! users' writes for too long. The port calls it.

use contract::id::UserId;
use jiff::Timestamp;
use notifications::store::NotificationStore;
use notifications::store::read_all::{ReadAll, Step};
use sqlite::millis;
use sqlite::rusqlite::{self, Connection, OptionalExtension, params};
use stores::idempotency::LIFETIME;
use stores::{Idempotency, Once, StoreError};

use super::lists::counter;
use super::marks::count_unread;
use super::store::SqliteNotifications;

/// How many notifications one job marks.
const MARK_BATCH: usize = 500;
/// How many keys are remembered per user. A user who sends more within their lifetime loses the
/// oldest: when it is sent again, it marks what is unread at that time.
const MAX_KEYS: usize = 100;

impl SqliteNotifications {
    pub(super) async fn read_all(&self, user: &UserId) -> Result<u64, StoreError> {
        // Notifications that arrive meanwhile stay unread, so the loop ends.
        let up_to = self.counter(user).await?.sequence;
        let mut updated = 0;
        loop {
            let user = user.clone();
            let marked = self.database.write("set_all_read", move |connection| {
                mark_some(connection, &user, up_to)
            });
            let marked = marked.await?;
            updated += marked as u64;
            if marked < MARK_BATCH {
                return Ok(updated);
            }
        }
    }

    /// With a key, each job marks notifications and stores the answer so far.
    pub(super) async fn read_all_once(
        &self,
        user: &UserId,
        key: &Idempotency,
        now: Timestamp,
    ) -> Result<Once<u64, u64>, StoreError> {
        let mut read_all = ReadAll::default();
        loop {
            let (user, key) = (user.clone(), key.clone());
            let step = self.database.write("set_all_read", move |connection| {
                mark_some_once(connection, &user, &key, now)
            });
            if let Some(answer) = read_all.after(step.await?) {
                return Ok(answer);
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
    let first = known.is_none();
    let (up_to, before) = match known {
        Some((other, ..)) if other != body => return Ok(Step::DifferentBody),
        Some((_, _, updated, true)) => {
            return Ok(Step::Marked {
                first,
                updated,
                done: true,
            });
        }
        Some((_, up_to, updated, false)) => (up_to, updated),
        None => (counter(connection, user)?.sequence, 0),
    };
    let marked = mark_some(connection, user, up_to)?;
    let (updated, done) = (before + marked as u64, marked < MARK_BATCH);
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
            first
        ])?;
    connection
        .prepare_cached(
            "DELETE FROM answers WHERE user_id = ?1 AND key IN (
                 SELECT key FROM answers WHERE user_id = ?1 ORDER BY at DESC LIMIT -1 OFFSET ?2)",
        )?
        .execute(params![user.as_str(), MAX_KEYS])?;
    Ok(Step::Marked {
        first,
        updated,
        done,
    })
}

/// Marks some unread notifications up to a sequence number and returns how many; fewer than
/// [`MARK_BATCH`] when none is left.
fn mark_some(connection: &Connection, user: &UserId, up_to: u64) -> rusqlite::Result<usize> {
    let marked = connection
        .prepare_cached(
            "UPDATE notifications SET read = 1 WHERE id IN (
                 SELECT id FROM notifications
                 WHERE user_id = ?1 AND read = 0 AND sequence <= ?2 LIMIT ?3)",
        )?
        .execute(params![user.as_str(), up_to, MARK_BATCH])?;
    count_unread(connection, user, -(marked as i64))?;
    Ok(marked)
}
