//! Marks and removes notifications, and adjusts the counts with them. It never changes the count of a
//! deleted user, which stays 0. The port calls it.

use std::collections::BTreeMap;

use contract::id::{NotificationId, UserId};
use jiff::Timestamp;
use notifications::domain::Notification;
use notifications::store::{Change, Expected};
use sqlite::millis;
use sqlite::rusqlite::{self, Connection, params};

use super::lists;

pub(super) fn set_read(
    connection: &Connection,
    user: &UserId,
    id: &NotificationId,
    read: bool,
    expected: Expected,
) -> rusqlite::Result<Change> {
    let mut found = match find(connection, user, id, expected)? {
        Ok(found) => found,
        Err(change) => return Ok(change),
    };
    if found.read != read {
        found.read = read;
        connection
            .prepare_cached("UPDATE notifications SET read = ?2 WHERE id = ?1")?
            .execute(params![id.as_str(), read])?;
        count_unread(connection, user, if read { -1 } else { 1 })?;
    }
    Ok(Change::Done(found))
}

/// The notification if it may be changed, otherwise the answer to give.
fn find(
    connection: &Connection,
    user: &UserId,
    id: &NotificationId,
    expected: Expected,
) -> rusqlite::Result<Result<Notification, Change>> {
    Ok(match lists::get(connection, user, id)? {
        None => Err(Change::Missing),
        Some(found) if !expected.includes(found.read) => Err(Change::Unexpected(found)),
        Some(found) => Ok(found),
    })
}

pub(super) fn delete(
    connection: &Connection,
    user: &UserId,
    id: &NotificationId,
    expected: Expected,
) -> rusqlite::Result<Change> {
    let found = match find(connection, user, id, expected)? {
        Ok(found) => found,
        Err(change) => return Ok(change),
    };
    connection
        .prepare_cached("DELETE FROM notifications WHERE id = ?1")?
        .execute([id.as_str()])?;
    if !found.read {
        count_unread(connection, user, -1)?;
    }
    Ok(Change::Done(found))
}

pub(super) fn count_unread(
    connection: &Connection,
    user: &UserId,
    step: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE counters SET unread = unread + ?2 WHERE user_id = ?1 AND deleted_at IS NULL",
        )?
        .execute(params![user.as_str(), step])?;
    Ok(())
}

pub(super) fn purge(
    connection: &Connection,
    now: Timestamp,
    limit: usize,
) -> rusqlite::Result<usize> {
    let expired: Vec<(String, String, i64, bool)> = connection
        .prepare_cached(
            "SELECT id, user_id, sequence, read FROM notifications
             WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2",
        )?
        .query_map(params![millis(now), limit], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?
        .collect::<Result<_, _>>()?;
    let mut users: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    let mut remove = connection.prepare_cached("DELETE FROM notifications WHERE id = ?1")?;
    for (id, user, sequence, read) in &expired {
        let (unread, purged) = users.entry(user).or_default();
        *unread += i64::from(!read);
        *purged = (*purged).max(*sequence);
        remove.execute([id])?;
    }
    for (user, (unread, purged)) in users {
        connection
            .prepare_cached(
                "UPDATE counters SET unread = unread - ?2, purged = max(purged, ?3)
                 WHERE user_id = ?1 AND deleted_at IS NULL",
            )?
            .execute(params![user, unread, purged])?;
    }
    Ok(expired.len())
}
