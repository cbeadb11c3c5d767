//! Removes what is stored of deleted users, and keys whose lifetime is over. The job that applies the
//! event puts a tombstone on the user's counter; later steps, short enough to hold up nobody, remove
//! the user's notifications.

use contract::id::UserId;
use jiff::Timestamp;
use sqlite::rusqlite::{self, Connection, OptionalExtension, params};
use sqlite::{millis, parsed};
use stores::idempotency::LIFETIME;

/// Puts a tombstone on a user. Returns false if there was one.
pub(super) fn add_tombstone(
    connection: &Connection,
    user: &UserId,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let deleted = connection
        .prepare_cached(
            "INSERT INTO counters (user_id, deleted_at, forgetting) VALUES (?1, ?2, 0)
             ON CONFLICT DO UPDATE SET unread = 0, deleted_at = ?2, forgetting = 0
                 WHERE deleted_at IS NULL",
        )?
        .execute(params![user.as_str(), millis(now)])?;
    Ok(deleted > 0)
}

/// A user with a tombstone who may still have notifications.
pub(super) fn user_to_forget(connection: &Connection) -> rusqlite::Result<Option<UserId>> {
    connection
        .prepare_cached("SELECT user_id FROM counters WHERE forgetting IS NOT NULL LIMIT 1")?
        .query_row([], |row| parsed(row, "user_id", UserId::parse))
        .optional()
}

/// Removes some notifications of a user with a tombstone, or records that none is left.
pub(super) fn forget(connection: &Connection, user: &UserId, limit: usize) -> rusqlite::Result<()> {
    let user = user.as_str();
    // Continues where the last step stopped.
    let last: Option<i64> = connection
        .prepare_cached(
            "SELECT max(sequence) FROM (
                 SELECT sequence FROM notifications
                 WHERE user_id = ?1
                     AND sequence > (SELECT forgetting FROM counters WHERE user_id = ?1)
                 ORDER BY sequence LIMIT ?2)",
        )?
        .query_row(params![user, limit], |row| row.get(0))?;
    match last {
        Some(last) => {
            connection
                .prepare_cached("DELETE FROM notifications WHERE user_id = ?1 AND sequence <= ?2")?
                .execute(params![user, last])?;
        }
        None => {
            connection
                .prepare_cached("DELETE FROM answers WHERE user_id = ?1")?
                .execute([user])?;
        }
    }
    connection
        .prepare_cached("UPDATE counters SET forgetting = ?2 WHERE user_id = ?1")?
        .execute(params![user, last])?;
    Ok(())
}

/// Removes keys whose lifetime is over.
pub(super) fn forget_keys(
    connection: &Connection,
    now: Timestamp,
    limit: usize,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM answers WHERE (user_id, key) IN (
                 SELECT user_id, key FROM answers WHERE at < ?1 LIMIT ?2)",
        )?
        .execute(params![millis(now - LIFETIME), limit])?;
    Ok(())
}
