//! Tasks in SQLite, for a platform in one process.
//!
//! A task, its event and its idempotency key are written by one job, which is one transaction; jobs run
//! one after the other. So a job may read before it writes, and no change can be stored without its
//! event. Standalone builds [`SqliteTaskStore`] and [`disk::DiskFiles`], and exports from both.

pub mod disk;
mod erasures;
mod list;
mod rows;

use std::path::Path;

use async_trait::async_trait;
use contract::event::Envelope;
use contract::id::TaskId;
use contract::page::{Page, PageRequest};
use events::outbox::{Backlog, Outbox, Pending};
use jiff::Timestamp;
use sqlite::rusqlite::{self, Connection, OptionalExtension, params};
use sqlite::{Database, OpenError, millis, outbox, parsed, unreadable};
use stores::idempotency::LIFETIME;
use stores::{Idempotency, Once, Store, StoreError};
use tasks::domain::{Erasure, Task};
use tasks::store::permits::SearchPermits;
use tasks::store::transfer::TaskWithHistory;
use tasks::store::{Cursor, Filter, Sort, TaskStore, WriteOutcome};

const MIGRATIONS: [&str; 2] = [outbox::SCHEMA, include_str!("schema.sql")];
/// The most events of one hint. Hints wait in memory while the consumers hang.
const MAX_HINTED_EVENTS: usize = 8;
/// Tombstones that one call purges, or keys that it forgets.
const CLEANUP_BATCH: usize = 500;
/// A task takes no more changes while its unpublished events have this size.
const MAX_PENDING_BYTES: u64 = 4 << 20;
/// Concurrent searches, in all and of one user. They leave connections free for other reads.
const MAX_SEARCHES: usize = 2;
const MAX_SEARCHES_PER_USER: usize = 1;

pub struct SqliteTaskStore {
    database: Database,
    searches: SearchPermits,
    max_pending_bytes: u64,
}

impl SqliteTaskStore {
    /// Opens the file, and creates it if it does not exist. No other process may use it.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Ok(Self {
            database: Database::open(path, &MIGRATIONS)?,
            searches: SearchPermits::new(MAX_SEARCHES, MAX_SEARCHES_PER_USER),
            max_pending_bytes: MAX_PENDING_BYTES,
        })
    }

    /// Lowers the size at which a task takes no more changes, for tests.
    #[must_use]
    pub fn with_max_pending_bytes(self, max_pending_bytes: u64) -> Self {
        Self {
            max_pending_bytes,
            ..self
        }
    }

    /// At most `limit` tasks with their history, in the order of their ids after `after`, for another
    /// store. Call it only when all of their events are published.
    pub async fn with_history(
        &self,
        after: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<TaskWithHistory>, StoreError> {
        self.database
            .read("export tasks", move |connection| {
                let tasks = rows::all(connection, after.as_ref(), limit)?;
                let with_history = |task: Task| {
                    let events = outbox::all(connection, task.id.as_str())?;
                    Ok(TaskWithHistory { task, events })
                };
                tasks.into_iter().map(with_history).collect()
            })
            .await
    }

    /// All erasures under way, for another store.
    pub async fn erasures(&self) -> Result<Vec<Erasure>, StoreError> {
        self.database.read("export erasures", rows::erasures).await
    }

    /// Runs `change` on the task's row and stores the event, if the row has the version before this
    /// one.
    async fn write_version(
        &self,
        operation: &'static str,
        task: &Task,
        event: &Envelope,
        change: fn(&Connection, &Task) -> rusqlite::Result<()>,
    ) -> Result<WriteOutcome, StoreError> {
        let (task, event, max_bytes) = (task.clone(), event.clone(), self.max_pending_bytes);
        self.database
            .write(operation, move |connection| {
                if !rows::is_of_version(connection, &task.id, task.version - 1)? {
                    return Ok(WriteOutcome::Stale);
                }
                let id = task.id.as_str();
                if outbox::waiting_bytes(connection, id)? >= max_bytes {
                    return Ok(WriteOutcome::Full);
                }
                change(connection, &task)?;
                outbox::add(connection, task.version, &event)?;
                let mut pending = outbox::waiting(connection, id, MAX_HINTED_EVENTS + 1)?;
                // A hint must be small and must not skip a version. The relay's sweep publishes what it
                // leaves out.
                if pending.len() > MAX_HINTED_EVENTS {
                    pending.clear();
                }
                Ok(WriteOutcome::Done(pending))
            })
            .await
    }
}

#[async_trait]
impl Store for SqliteTaskStore {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.database.ping().await
    }
}

#[async_trait]
impl TaskStore for SqliteTaskStore {
    /// Does nothing: [`Self::open`] has created the tables.
    async fn prepare(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn insert(
        &self,
        task: &Task,
        event: &Envelope,
        idempotency: Option<&Idempotency>,
    ) -> Result<Once<Vec<Pending>, Task>, StoreError> {
        let (task, event, key) = (task.clone(), event.clone(), idempotency.cloned());
        self.database
            .write("insert task", move |connection| {
                if let Some(key) = &key
                    && let Some(earlier) = find_by_key(connection, &task, key)?
                {
                    return Ok(earlier);
                }
                rows::insert(connection, &task, key.as_ref())?;
                outbox::add(connection, task.version, &event)?;
                let version = task.version;
                Ok(Once::New(vec![Pending { version, event }]))
            })
            .await
    }

    async fn get(&self, id: &TaskId) -> Result<Option<Task>, StoreError> {
        let id = id.clone();
        self.database
            .read("get task", move |connection| rows::get(connection, &id))
            .await
    }

    async fn list(
        &self,
        filter: &Filter,
        sort: Sort,
        page: &PageRequest<Cursor>,
    ) -> Result<Page<Task>, StoreError> {
        self.page(filter, sort, page).await
    }

    async fn update(&self, task: &Task, event: &Envelope) -> Result<WriteOutcome, StoreError> {
        self.write_version("update task", task, event, rows::update)
            .await
    }

    async fn delete(&self, task: &Task, event: &Envelope) -> Result<WriteOutcome, StoreError> {
        self.write_version("delete task", task, event, rows::delete)
            .await
    }

    async fn history(
        &self,
        id: &TaskId,
        page: &PageRequest<u64>,
    ) -> Result<Page<Envelope>, StoreError> {
        self.database.history(id.as_str(), page).await
    }

    async fn purge(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.database
            .write("purge tasks", move |connection| {
                let gone: Vec<String> = connection
                    .prepare_cached(
                        "SELECT id FROM tasks
                         WHERE deleted_at < ?1 AND NOT EXISTS (
                             SELECT 1 FROM events WHERE subject = tasks.id AND published = 0)
                         LIMIT ?2",
                    )?
                    .query_map(params![millis(before), CLEANUP_BATCH], |row| row.get(0))?
                    .collect::<Result<_, _>>()?;
                for id in &gone {
                    outbox::forget(connection, id)?;
                    connection
                        .prepare_cached("DELETE FROM tasks WHERE id = ?1")?
                        .execute([id])?;
                }
                Ok(gone.len() as u64)
            })
            .await
    }

    async fn forget_keys(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.database
            .write("forget keys", move |connection| {
                let forgotten = connection
                    .prepare_cached(
                        "UPDATE tasks SET key = NULL, body = NULL, keyed_at = NULL WHERE id IN (
                             SELECT id FROM tasks WHERE keyed_at < ?1 LIMIT ?2)",
                    )?
                    .execute(params![millis(before), CLEANUP_BATCH])?;
                Ok(forgotten as u64)
            })
            .await
    }
}

/// The outcome of the first request with the owner's key; `None` if the key is unused or has expired. An
/// expired key is released.
fn find_by_key(
    connection: &Connection,
    task: &Task,
    idempotency: &Idempotency,
) -> rusqlite::Result<Option<Once<Vec<Pending>, Task>>> {
    let (owner, key) = (task.owner_id.as_str(), idempotency.key.to_hex());
    // Finds deleted tasks too: a tombstone keeps its key.
    let found = connection
        .prepare_cached("SELECT id, body, keyed_at FROM tasks WHERE owner_id = ?1 AND key = ?2")?
        .query_row(params![owner, key], |row| {
            let id = parsed(row, "id", TaskId::parse)?;
            Ok((
                id,
                row.get::<_, String>("body")?,
                row.get::<_, i64>("keyed_at")?,
            ))
        })
        .optional()?;
    let Some((id, body, keyed_at)) = found else {
        return Ok(None);
    };
    if keyed_at <= millis(task.created_at - LIFETIME) {
        connection
            .prepare_cached(
                "UPDATE tasks SET key = NULL, body = NULL, keyed_at = NULL WHERE id = ?1",
            )?
            .execute([id.as_str()])?;
        return Ok(None);
    }
    if body != idempotency.body.to_hex() {
        return Ok(Some(Once::Mismatch));
    }
    let created = outbox::event(connection, id.as_str(), 1)?
        .ok_or_else(|| unreadable("a task without its first event"))?;
    let first = Task::from_event(&created).map_err(unreadable)?;
    Ok(Some(Once::Before(first)))
}

#[async_trait]
impl Outbox for SqliteTaskStore {
    async fn pending(
        &self,
        older_than: Timestamp,
        limit: usize,
    ) -> Result<Vec<Pending>, StoreError> {
        self.database.pending(older_than, limit).await
    }

    async fn mark_published(&self, published: &[Pending]) -> Result<(), StoreError> {
        self.database.mark_published(published).await
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        self.database.backlog().await
    }
}
