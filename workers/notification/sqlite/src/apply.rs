//! Applies a batch of events: what each tells, its id, and every count that follows from it.

use jiff::Timestamp;
use notifications::domain::{Entry, Event, MEMORY, Notice, RETENTION};
use notifications::store::Outcome;
use sqlite::rusqlite::{self, Connection, OptionalExtension, named_params, params};
use sqlite::{millis, unreadable};

use super::forget::bury;

/// One outcome for each event.
pub(super) fn apply(
    connection: &Connection,
    events: &[Event],
    now: Timestamp,
) -> rusqlite::Result<Vec<Outcome>> {
    let mut outcomes = vec![Outcome::Duplicate; events.len()];
    // The tombstones first, so that the tasks see them: of what is in one batch, it does not matter
    // which came first.
    for (event, outcome) in events.iter().zip(&mut outcomes) {
        if let Event::UserDeleted(user) = event
            && bury(connection, user, now)?
        {
            *outcome = Outcome::Applied;
        }
    }
    for (event, outcome) in events.iter().zip(&mut outcomes) {
        if let Event::Task(entry) = event
            && remember(connection, entry, now)?
        {
            *outcome = Outcome::Applied;
            for notice in &entry.notices {
                tell(connection, notice)?;
            }
        }
    }
    Ok(outcomes)
}

/// Notes that the event is applied. False where it was before.
fn remember(connection: &Connection, entry: &Entry, now: Timestamp) -> rusqlite::Result<bool> {
    let noted = connection
        .prepare_cached("INSERT INTO processed VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
        .execute(params![entry.event_id, millis(now)])?;
    Ok(noted > 0)
}

/// Adds a notification, with the next number of its user; none where that user is gone.
fn tell(connection: &Connection, notice: &Notice) -> rusqlite::Result<()> {
    let sequence: Option<i64> = connection
        .prepare_cached(
            "INSERT INTO counters (user_id, sequence, unread) VALUES (?1, 1, 1)
             ON CONFLICT DO UPDATE SET sequence = sequence + 1, unread = unread + 1
                 WHERE deleted_at IS NULL
             RETURNING sequence",
        )?
        .query_row([notice.user_id.as_str()], |row| row.get(0))
        .optional()?;
    let Some(sequence) = sequence else {
        return Ok(());
    };
    // Out of range only at the end of time.
    let expires_at = notice.created_at.checked_add(RETENTION);
    connection
        .prepare_cached(
            "INSERT INTO notifications VALUES (:id, :user_id, :sequence, :kind, :task_id,
                 :task_version, :title, :body, :actor_id, 0, :created_at, :expires_at)",
        )?
        .execute(named_params! {
            ":id": notice.id.as_str(),
            ":user_id": notice.user_id.as_str(),
            ":sequence": sequence,
            ":kind": notice.kind.as_str(),
            ":task_id": notice.task_id.as_str(),
            ":task_version": notice.task_version,
            ":title": notice.title,
            ":body": notice.body,
            ":actor_id": notice.actor_id.as_str(),
            ":created_at": millis(notice.created_at),
            ":expires_at": millis(expires_at.unwrap_or(Timestamp::MAX)),
        })?;
    Ok(())
}

/// Forgets events that are too old to tell anybody anything, should they come again.
pub(super) fn forget_events(
    connection: &Connection,
    now: Timestamp,
    limit: usize,
) -> rusqlite::Result<()> {
    let before = now.checked_sub(MEMORY).map_err(unreadable)?;
    connection
        .prepare_cached(
            "DELETE FROM processed WHERE event_id IN (
                 SELECT event_id FROM processed WHERE at < ?1 LIMIT ?2)",
        )?
        .execute(params![millis(before), limit])?;
    Ok(())
}
