//! Counters of attempts: one small row each. A purge removes it when the counter is empty and its
//! client is no longer known. Each counted attempt costs a password hash, so hashing bounds the
//! number of rows.

use jiff::Timestamp;
use sqlite::rusqlite::{self, Connection, OptionalExtension, params};
use sqlite::{millis, time};
use users::domain::{CounterKey, Quota};
use users::store::AttemptDecision;

/// The most counters that one purge removes.
const PURGE_BATCH: usize = 500;

pub(super) fn take(
    connection: &Connection,
    key: &CounterKey,
    quota: &Quota,
    now: Timestamp,
) -> rusqlite::Result<AttemptDecision> {
    let found = connection
        .prepare_cached("SELECT empty_at, known_until FROM attempts WHERE key = ?1")?
        .query_row([key.as_bytes()], |row| {
            Ok((
                time(row, "empty_at")?,
                row.get::<_, Option<i64>>("known_until")?,
            ))
        })
        .optional()?;
    let (empty_at, known_until) = found.unzip();
    let known_until = known_until.flatten();
    let taken = quota.take(empty_at, now);
    if let Ok(next) = taken {
        let next = millis(next);
        connection
            .prepare_cached(
                "INSERT INTO attempts (key, empty_at, expires_at) VALUES (?1, ?2, ?2)
                 ON CONFLICT (key) DO UPDATE SET
                     empty_at = ?2, expires_at = max(?2, coalesce(known_until, ?2))",
            )?
            .execute(params![key.as_bytes(), next])?;
    }
    Ok(AttemptDecision {
        admitted: taken.map(drop),
        known: known_until.is_some_and(|until| until > millis(now)),
    })
}

pub(super) fn give_back(
    connection: &Connection,
    key: &CounterKey,
    quota: &Quota,
    known_until: Option<Timestamp>,
) -> rusqlite::Result<()> {
    let every = i64::try_from(quota.every.as_millis()).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "UPDATE attempts SET empty_at = empty_at - ?2, known_until = coalesce(?3, known_until),
                 expires_at = max(empty_at - ?2, coalesce(?3, known_until, 0))
             WHERE key = ?1",
        )?
        .execute(params![key.as_bytes(), every, known_until.map(millis)])?;
    Ok(())
}

pub(super) fn purge(connection: &Connection, before: Timestamp) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM attempts WHERE key IN (
                 SELECT key FROM attempts WHERE expires_at < ?1 LIMIT ?2)",
        )?
        .execute(params![millis(before), PURGE_BATCH])?;
    Ok(())
}
