//! Tasks in MongoDB: one document per task, with its unpublished events inside.
//!
//! Every change is one atomic write of one document, acknowledged by a majority and journaled. The
//! version in its filter decides which of two changes comes first, and a change can never be stored
//! without its event. Published events are copied to the collection of the history, and only then
//! removed from the document. The task worker builds [`MongoTaskStore`] and [`files::GridFsFiles`];
//! the import of an export uses both.

mod document;
mod erasures;
pub mod files;
mod idempotency;
mod indexes;
mod inserts;
mod list;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bson::{Bson, Document, doc};
use contract::event::Envelope;
use contract::id::TaskId;
use contract::page::{Page, PageRequest};
use events::outbox::{Backlog, Outbox, Pending};
use futures_util::TryStreamExt;
use jiff::Timestamp;
use mongo::outbox::{self, EmbeddedOutbox, pending_bson};
use mongo::{MongoSettings, connect, insert_missing, ping, run, to_bson};
use mongodb::options::{IndexOptions, ReturnDocument};
use mongodb::{Collection, Database, IndexModel};
use stores::{Idempotency, Once, Store, StoreError};
use tasks::domain::Task;
use tasks::store::permits::SearchPermits;
use tasks::store::transfer::TaskWithHistory;
use tasks::store::{Cursor, Filter, Sort, TaskStore, WriteOutcome};
use tokio::sync::OnceCell;

use self::document::{ErasureDocument, TaskDocument, task_fields};
use self::inserts::Inserts;

const TASKS: &str = "tasks";
const EVENTS: &str = "task_events";
/// The most events of one hint. Hints wait in memory while the broker hangs.
const MAX_HINTED_EVENTS: i32 = 8;
/// Tombstones that one call purges, or keys that it forgets.
const CLEANUP_BATCH: i64 = 500;
/// Concurrent searches, in all and of one user.
const MAX_SEARCHES: usize = 8;
const MAX_SEARCHES_PER_USER: usize = 2;
/// A document of this size takes no more events. It is far below the 16 MB at which the server refuses
/// every write.
const MAX_DOCUMENT_BYTES: i32 = 4 << 20;

#[derive(Clone)]
pub struct MongoTaskStore {
    database: Database,
    tasks: Collection<Document>,
    events: Collection<Document>,
    erasures: Collection<ErasureDocument>,
    outbox: EmbeddedOutbox,
    inserts: Inserts,
    /// Set once the indexes exist.
    prepared: Arc<OnceCell<()>>,
    searches: Arc<SearchPermits>,
    /// See [`MAX_DOCUMENT_BYTES`].
    max_document_bytes: i32,
}

impl MongoTaskStore {
    pub async fn connect(settings: &MongoSettings) -> anyhow::Result<Self> {
        let database = connect(settings).await?;
        let tasks = database.collection(TASKS);
        Ok(Self {
            inserts: Inserts::new(&tasks),
            tasks,
            events: database.collection(EVENTS),
            erasures: document::erasures(&database),
            outbox: EmbeddedOutbox::new(&database, TASKS, EVENTS),
            prepared: Arc::default(),
            searches: Arc::new(SearchPermits::new(MAX_SEARCHES, MAX_SEARCHES_PER_USER)),
            database,
            max_document_bytes: MAX_DOCUMENT_BYTES,
        })
    }

    /// The events of all tasks, published or not.
    pub fn outbox(&self) -> EmbeddedOutbox {
        self.outbox.clone()
    }

    /// Lowers the size at which a task takes no more events, for tests.
    #[must_use]
    pub fn with_max_document_bytes(self, max_document_bytes: i32) -> Self {
        Self {
            max_document_bytes,
            ..self
        }
    }

    /// Imports tasks from another store, with their history. A task that exists already stays as it is.
    pub async fn import(&self, moved: &[TaskWithHistory]) -> Result<(), StoreError> {
        const OPERATION: &str = "import tasks";
        self.require_indexes(OPERATION)?;
        let (mut published, mut documents) = (Vec::new(), Vec::new());
        for TaskWithHistory { task, events } in moved {
            let version = |event: &Envelope| event.id.rsplit(':').next()?.parse().ok();
            for event in events {
                let version = version(event)
                    .ok_or_else(|| StoreError::corrupt(OPERATION, "an event without a version"))?;
                let event = event.clone();
                published.push(Pending { version, event });
            }
            let version = i64::try_from(task.version);
            let mut document = task_fields(OPERATION, task)?;
            document.insert(
                "version",
                version.map_err(|why| StoreError::corrupt(OPERATION, why))?,
            );
            document.insert("pending", Bson::Array(Vec::new()));
            document.insert("deleted_at", Bson::Null);
            document.insert("schema", document::SCHEMA);
            documents.push(document);
        }
        // The history first: a task that exists must have all of it.
        if !published.is_empty() {
            self.outbox.mark_published(&published).await?;
        }
        let tasks = self.tasks.clone();
        run(
            OPERATION,
            async move { insert_missing(&tasks, documents).await },
        )
        .await
    }

    /// Whether there is no task yet.
    pub async fn is_empty(&self) -> Result<bool, StoreError> {
        let tasks = self.tasks.clone();
        let first = run(
            "look for tasks",
            async move { tasks.find_one(doc! {}).await },
        );
        Ok(first.await?.is_none())
    }

    fn require_indexes(&self, operation: &'static str) -> Result<(), StoreError> {
        let missing = || StoreError::unavailable(operation, "the indexes do not exist yet");
        self.prepared.get().copied().ok_or_else(missing)
    }

    async fn create_indexes(&self) -> Result<(), StoreError> {
        let gone = IndexOptions::builder()
            .partial_filter_expression(doc! {"deleted_at": {"$type": "date"}})
            .build();
        let index = |keys| IndexModel::builder().keys(keys);
        let mut indexes = vec![index(doc! {"deleted_at": 1}).options(gone).build()];
        indexes.extend(indexes::lists());
        indexes.extend(indexes::keys());
        let (tasks, erasures) = (self.tasks.clone(), self.erasures.clone());
        run("prepare", async move {
            erasures.create_index(indexes::erasures()).await?;
            tasks.create_indexes(indexes).await
        })
        .await?;
        self.outbox.prepare().await
    }

    /// Makes one conditional write: if the task has the version before this one, applies `change` and
    /// stores the event.
    async fn write_version(
        &self,
        operation: &'static str,
        task: &Task,
        event: &Envelope,
        change: Document,
    ) -> Result<WriteOutcome, StoreError> {
        let expected =
            i64::try_from(task.version - 1).map_err(|why| StoreError::corrupt(operation, why))?;
        let current = doc! {"_id": task.id.as_str(), "version": expected, "deleted_at": null};
        let mut not_full = current.clone();
        let size = doc! {"$bsonSize": "$$ROOT"};
        not_full.insert("$expr", doc! {"$lt": [size, self.max_document_bytes]});
        let mut update = change;
        update.insert("$inc", doc! {"version": 1});
        update.insert(
            "$push",
            doc! {"pending": pending_bson(operation, event, task.version)?},
        );
        let tasks = self.tasks.clone();
        let updated = run(operation, async move {
            tasks
                .find_one_and_update(not_full, update)
                .projection(doc! {"pending": {"$slice": MAX_HINTED_EVENTS + 1}, "version": 1})
                .return_document(ReturnDocument::After)
                .await
        })
        .await?;
        if let Some(document) = updated {
            let mut pending = outbox::pending(operation, &document)?;
            // A hint must be small and must not skip a version. The relay's sweep publishes what it leaves
            // out.
            if pending.len() > MAX_HINTED_EVENTS as usize {
                pending.clear();
            }
            return Ok(WriteOutcome::Done(pending));
        }
        let tasks = self.tasks.clone();
        let still_current = run(
            operation,
            async move { tasks.count_documents(current).await },
        )
        .await?;
        Ok(if still_current > 0 {
            WriteOutcome::Full
        } else {
            WriteOutcome::Stale
        })
    }
}

#[async_trait]
impl Store for MongoTaskStore {
    fn name(&self) -> &'static str {
        "mongodb"
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.require_indexes("ready")?;
        ping(&self.database).await
    }
}

#[async_trait]
impl TaskStore for MongoTaskStore {
    async fn prepare(&self) -> Result<(), StoreError> {
        let prepared = self.prepared.get_or_try_init(|| self.create_indexes());
        prepared.await.copied()
    }

    async fn insert(
        &self,
        task: &Task,
        event: &Envelope,
        idempotency: Option<&Idempotency>,
    ) -> Result<Once<Vec<Pending>, Task>, StoreError> {
        let operation = "insert task";
        // Invariant: no task exists before the unique index that decides between two inserts with one key.
        self.require_indexes(operation)?;
        let mut document = task_fields(operation, task)?;
        document.insert("version", 1_i64);
        document.insert(
            "pending",
            vec![pending_bson(operation, event, task.version)?],
        );
        document.insert("deleted_at", Bson::Null);
        document.insert("schema", document::SCHEMA);
        if let Some(idempotency) = idempotency {
            if let Some(other) = self.insert_keyed(task, document, idempotency).await? {
                return Ok(other);
            }
        } else if !self.inserts.insert(document).await? {
            let twice = "a new task exists already";
            return Err(StoreError::corrupt(operation, twice));
        }
        Ok(Once::New(vec![Pending {
            version: task.version,
            event: event.clone(),
        }]))
    }

    async fn get(&self, id: &TaskId) -> Result<Option<Task>, StoreError> {
        let filter = doc! {"_id": id.as_str(), "deleted_at": null};
        let tasks = self.tasks.clone_with_type::<TaskDocument>();
        let found = run("get task", async move {
            tasks
                .find_one(filter)
                .projection(document::projection())
                .await
        })
        .await?;
        Ok(found.map(Task::from))
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
        let mut set = task_fields("update task", task)?;
        set.remove("_id");
        self.write_version("update task", task, event, doc! {"$set": set})
            .await
    }

    async fn delete(&self, task: &Task, event: &Envelope) -> Result<WriteOutcome, StoreError> {
        let at = to_bson(task.updated_at);
        let change = doc! {
            "$set": {"deleted_at": at, "updated_at": at},
            "$unset": {"members": 1},
        };
        self.write_version("delete task", task, event, change).await
    }

    async fn history(
        &self,
        id: &TaskId,
        page: &PageRequest<u64>,
    ) -> Result<Page<Envelope>, StoreError> {
        self.outbox.history(id.as_str(), page).await
    }

    async fn purge(&self, before: Timestamp) -> Result<u64, StoreError> {
        // Only with `$type` does the server use the partial index.
        let gone = doc! {
            "deleted_at": {"$lt": to_bson(before), "$type": "date"},
            "pending.0": {"$exists": false},
        };
        let (tasks, events) = (self.tasks.clone(), self.events.clone());
        run("purge tasks", async move {
            let found = tasks
                .find(gone)
                .projection(doc! {"_id": 1})
                .limit(CLEANUP_BATCH);
            let found: Vec<Document> = found.await?.try_collect().await?;
            let ids: Vec<Bson> = found
                .iter()
                .filter_map(|task| task.get("_id").cloned())
                .collect();
            if ids.is_empty() {
                return Ok(0);
            }
            // The history first: after a crash in between, the task is still there to be found.
            events.delete_many(doc! {"subject": {"$in": &ids}}).await?;
            Ok(tasks
                .delete_many(doc! {"_id": {"$in": ids}})
                .await?
                .deleted_count)
        })
        .await
    }

    async fn forget_keys(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.forget_keys_before(before).await
    }
}

#[async_trait]
impl Outbox for MongoTaskStore {
    async fn pending(
        &self,
        older_than: Timestamp,
        limit: usize,
    ) -> Result<Vec<Pending>, StoreError> {
        self.outbox.pending(older_than, limit).await
    }

    async fn mark_published(&self, published: &[Pending]) -> Result<(), StoreError> {
        self.outbox.mark_published(published).await
    }

    async fn claim_sweep(&self, holder: &str, hold: Duration) -> Result<bool, StoreError> {
        self.outbox.claim_sweep(holder, hold).await
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        self.outbox.backlog().await
    }
}
