//! The outbox as a table in the entity's file, so an entity and its event are one transaction.
//!
//! One table holds both the outbox and the history; the column `published` distinguishes them.

use contract::event::Envelope;
use contract::page::{Page, PageRequest};
use events::outbox::{Backlog, Pending};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use stores::StoreError;

use super::{Database, json, millis, to_json, unreadable};

/// The tables, for a store's first migration.
pub const SCHEMA: &str = "
    CREATE TABLE events (
        subject TEXT NOT NULL,
        version INTEGER NOT NULL,
        at INTEGER NOT NULL,
        event TEXT NOT NULL,
        published INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (subject, version)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX events_waiting ON events (at, subject, version) WHERE published = 0;
    CREATE INDEX events_of_subject_waiting ON events (subject, version) WHERE published = 0;
";

/// The backlog is counted up to here; a larger count would cost more than it tells.
const MAX_COUNT: u64 = 10_000;

/// Adds an event, in the same job of [`Database::write`] as the change that it describes.
pub fn add(connection: &Connection, version: u64, event: &Envelope) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO events (subject, version, at, event) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![
            event.subject,
            version,
            millis(event.time),
            to_json(event)?
        ])?;
    Ok(())
}

/// A subject's unpublished events in version order, at most `limit`.
pub fn waiting(
    connection: &Connection,
    subject: &str,
    limit: usize,
) -> rusqlite::Result<Vec<Pending>> {
    connection
        .prepare_cached(
            "SELECT version, event FROM events WHERE subject = ?1 AND published = 0
             ORDER BY version LIMIT ?2",
        )?
        .query_map(params![subject, limit], pending)?
        .collect()
}

/// Bytes of a subject's unpublished events.
pub fn waiting_bytes(connection: &Connection, subject: &str) -> rusqlite::Result<u64> {
    connection
        .prepare_cached(
            "SELECT coalesce(sum(length(event)), 0) FROM events WHERE subject = ?1 AND published = 0",
        )?
        .query_row([subject], |row| row.get(0))
}

/// The event that made a version of a subject, published or not.
pub fn event(
    connection: &Connection,
    subject: &str,
    version: u64,
) -> rusqlite::Result<Option<Envelope>> {
    connection
        .prepare_cached("SELECT version, event FROM events WHERE subject = ?1 AND version = ?2")?
        .query_row(params![subject, version], pending)
        .optional()
        .map(|found| found.map(|found| found.event))
}

/// All events of a subject, in version order.
pub fn all(connection: &Connection, subject: &str) -> rusqlite::Result<Vec<Envelope>> {
    connection
        .prepare_cached("SELECT version, event FROM events WHERE subject = ?1 ORDER BY version")?
        .query_map([subject], |row| pending(row).map(|pending| pending.event))?
        .collect()
}

/// Removes a subject's history. None of its events may be unpublished.
pub fn forget(connection: &Connection, subject: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM events WHERE subject = ?1 AND published = 1")?
        .execute([subject])?;
    Ok(())
}

fn pending(row: &Row<'_>) -> rusqlite::Result<Pending> {
    Ok(Pending {
        version: row.get("version")?,
        event: json(row, "event")?,
    })
}

/// The methods of [`events::outbox::Outbox`], to which a store delegates.
impl Database {
    pub async fn pending(
        &self,
        older_than: Timestamp,
        limit: usize,
    ) -> Result<Vec<Pending>, StoreError> {
        let until = millis(older_than);
        self.read("read outbox", move |connection| {
            // The age of a subject is the age of its first unpublished event.
            let mut subjects = connection.prepare_cached(
                "SELECT subject FROM events AS first
                 WHERE published = 0 AND at <= ?1 AND NOT EXISTS (
                     SELECT 1 FROM events
                     WHERE published = 0 AND subject = first.subject AND version < first.version)
                 ORDER BY at, subject",
            )?;
            let mut subjects = subjects.query([until])?;
            let mut found = Vec::new();
            while found.len() < limit
                && let Some(subject) = subjects.next()?
            {
                let subject = subject.get_ref("subject")?.as_str()?;
                found.extend(waiting(connection, subject, limit - found.len())?);
            }
            Ok(found)
        })
        .await
    }

    pub async fn mark_published(&self, published: &[Pending]) -> Result<(), StoreError> {
        let published: Vec<_> = published
            .iter()
            .map(|pending| (pending.event.subject.clone(), pending.version))
            .collect();
        self.write("mark published", move |connection| {
            let mut mark = connection.prepare_cached(
                "UPDATE events SET published = 1 WHERE subject = ?1 AND version = ?2",
            )?;
            for (subject, version) in &published {
                mark.execute(params![subject, version])?;
            }
            Ok(())
        })
        .await
    }

    pub async fn backlog(&self) -> Result<Backlog, StoreError> {
        self.read("measure outbox", |connection| {
            let oldest: Option<i64> = connection
                .prepare_cached("SELECT at FROM events WHERE published = 0 ORDER BY at LIMIT 1")?
                .query_row([], |row| row.get(0))
                .optional()?;
            let subjects = connection
                .prepare_cached(
                    "SELECT count(*) FROM (SELECT DISTINCT subject FROM events
                     WHERE published = 0 LIMIT ?1)",
                )?
                .query_row([MAX_COUNT], |row| row.get(0))?;
            let oldest = oldest.map(Timestamp::from_millisecond).transpose();
            Ok(Backlog {
                subjects,
                oldest: oldest.map_err(unreadable)?,
            })
        })
        .await
    }

    /// A subject's events after a version, in version order, published or not.
    pub async fn history(
        &self,
        subject: &str,
        page: &PageRequest<u64>,
    ) -> Result<Page<Envelope>, StoreError> {
        let (subject, limit) = (subject.to_owned(), page.limit);
        let after = page
            .after
            .map_or(0, |after| i64::try_from(after).unwrap_or(i64::MAX));
        let found: Vec<Pending> = self
            .read("read history", move |connection| {
                connection
                    .prepare_cached(
                        "SELECT version, event FROM events WHERE subject = ?1 AND version > ?2
                         ORDER BY version LIMIT ?3",
                    )?
                    .query_map(params![subject, after, limit + 1], pending)?
                    .collect()
            })
            .await?;
        Ok(Page::new(found, limit, |pending| pending.version).map(|pending| pending.event))
    }
}
