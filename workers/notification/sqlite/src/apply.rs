//! Applies a batch of events in one job: their notifications, their ids and the counts. The port
//! calls it.

use jiff::Timestamp;
use notifications::domain::{Event, MEMORY, NotificationContent, RETENTION, TaskNotifications};
use notifications::store::Outcome;
use sqlite::rusqlite::{self, Connection, OptionalExtension, named_params, params};
use sqlite::{millis, unreadable};

use super::forget::add_tombstone;

/// One outcome for each event.
pub(super) fn apply(
    connection: &Connection,
    events: &[Event],
    now: Timestamp,
) -> rusqlite::Result<Vec<Outcome>> {
    let mut outcomes = vec![Outcome::Duplicate; events.len()];
    // Tombstones first, so that the task events see them: within one batch the order of events does
    // not matter.
    for (event, outcome) in events.iter().zip(&mut outcomes) {
        if let Event::UserDeleted(user) = event
            && add_tombstone(connection, user, now)?
        {
            *outcome = Outcome::Applied;
        }
    }
    for (event, outcome) in events.iter().zip(&mut outcomes) {
        if let Event::Task(task) = event
            && record_applied(connection, task, now)?
        {
            *outcome = Outcome::Applied;
            for content in &task.notifications {
                notify(connection, content)?;
            }
        }
    }
    Ok(outcomes)
}

/// Records that the event is applied. Returns false if it was applied before.
fn record_applied(
    connection: &Connection,
    task: &TaskNotifications,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let recorded = connection
        .prepare_cached("INSERT INTO processed VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
        .execute(params![task.event_id, millis(now)])?;
    Ok(recorded > 0)
}

/// Adds a notification with the next sequence number of its user; adds nothing if the user was deleted.
fn notify(connection: &Connection, content: &NotificationContent) -> rusqlite::Result<()> {
    let sequence: Option<i64> = connection
        .prepare_cached(
            "INSERT INTO counters (user_id, sequence, unread) VALUES (?1, 1, 1)
             ON CONFLICT DO UPDATE SET sequence = sequence + 1, unread = unread + 1
                 WHERE deleted_at IS NULL
             RETURNING sequence",
        )?
        .query_row([content.user_id.as_str()], |row| row.get(0))
        .optional()?;
    let Some(sequence) = sequence else {
        return Ok(());
    };
    // Out of range only beyond the last representable time.
    let expires_at = content.created_at.checked_add(RETENTION);
    connection
        .prepare_cached(
            "INSERT INTO notifications VALUES (:id, :user_id, :sequence, :kind, :task_id,
                 :task_version, :title, :body, :actor_id, 0, :created_at, :expires_at)",
        )?
        .execute(named_params! {
            ":id": content.id.as_str(),
            ":user_id": content.user_id.as_str(),
            ":sequence": sequence,
            ":kind": content.kind.as_str(),
            ":task_id": content.task_id.as_str(),
            ":task_version": content.task_version,
            ":title": content.title,
            ":body": content.body,
            ":actor_id": content.actor_id.as_str(),
            ":created_at": millis(content.created_at),
            ":expires_at": millis(expires_at.unwrap_or(Timestamp::MAX)),
        })?;
    Ok(())
}

/// Removes the ids of events so old that they would notify nobody if they were redelivered.
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
