//! Tasks in MongoDB: one document per task, its unpublished events inside.
//!
//! Every change is one atomic write of one document, acknowledged by a majority and journaled: the
//! version decides who comes first, and there is no moment at which a change has no event. Published
//! events move to the collection of the history, and only then leave the document.

mod document;

use async_trait::async_trait;
use bson::{Bson, Document, doc};
use futures_util::TryStreamExt;
use jiff::Timestamp;
use mongodb::options::{IndexOptions, ReturnDocument};
use mongodb::{Collection, Database, IndexModel};
use shared::event::Envelope;
use shared::id::TaskId;
use shared::mongo::outbox::{self, EmbeddedOutbox, pending_bson};
use shared::mongo::{MongoSettings, connect, ping, run, to_bson};
use shared::outbox::{Backlog, Outbox, Pending};
use shared::page::{Page, PageRequest};
use shared::store::StoreError;

use self::document::{TaskDocument, task_fields};
use super::{Filter, Key, Role, TaskStore, Written};
use crate::domain::Task;

const TASKS: &str = "tasks";
const EVENTS: &str = "task_events";
/// Events that one hint may carry: while the broker hangs, hints wait in memory.
const HINTED: i32 = 8;
/// Tombstones in one purge.
const PURGED_AT_ONCE: i64 = 500;
/// A document takes no more events beyond this, far below the 16 MB where no write would fit.
const MAX_DOCUMENT_BYTES: i32 = 4 << 20;

#[derive(Clone)]
pub struct MongoTaskStore {
    database: Database,
    tasks: Collection<Document>,
    events: Collection<Document>,
    outbox: EmbeddedOutbox,
    /// See [`MAX_DOCUMENT_BYTES`].
    max_document_bytes: i32,
}

impl MongoTaskStore {
    pub async fn connect(settings: &MongoSettings) -> anyhow::Result<Self> {
        let database = connect(settings).await?;
        Ok(Self {
            tasks: database.collection(TASKS),
            events: database.collection(EVENTS),
            outbox: EmbeddedOutbox::new(&database, TASKS, EVENTS),
            database,
            max_document_bytes: MAX_DOCUMENT_BYTES,
        })
    }

    /// A store whose tasks are full sooner, for tests.
    #[must_use]
    pub fn with_max_document_bytes(self, max_document_bytes: i32) -> Self {
        Self {
            max_document_bytes,
            ..self
        }
    }

    /// One conditional write: the version before, a `$set` and its event.
    async fn write(
        &self,
        operation: &'static str,
        task: &Task,
        event: &Envelope,
        change: Document,
    ) -> Result<Written, StoreError> {
        let expected =
            i64::try_from(task.version - 1).map_err(|why| StoreError::corrupt(operation, why))?;
        let current = doc! {"_id": task.id.as_str(), "version": expected, "deleted_at": null};
        let mut room = current.clone();
        let size = doc! {"$bsonSize": "$$ROOT"};
        room.insert("$expr", doc! {"$lt": [size, self.max_document_bytes]});
        let mut update = change;
        update.insert("$inc", doc! {"version": 1});
        update.insert(
            "$push",
            doc! {"pending": pending_bson(operation, event, task.version)?},
        );
        let tasks = self.tasks.clone();
        let written = run(operation, async move {
            tasks
                .find_one_and_update(room, update)
                .projection(doc! {"pending": {"$slice": HINTED + 1}, "version": 1})
                .return_document(ReturnDocument::After)
                .await
        })
        .await?;
        if let Some(document) = written {
            let mut pending = outbox::pending(operation, &document)?;
            // A hint must be small and must not skip a version; the sweeper has the others.
            if pending.len() > HINTED as usize {
                pending.clear();
            }
            return Ok(Written::Done(pending));
        }
        let tasks = self.tasks.clone();
        let full = run(
            operation,
            async move { tasks.count_documents(current).await },
        )
        .await?;
        Ok(if full > 0 {
            Written::Full
        } else {
            Written::Stale
        })
    }
}

#[async_trait]
impl TaskStore for MongoTaskStore {
    async fn prepare(&self) -> Result<(), StoreError> {
        let partial = |keys: Document, filter: Document| {
            let options = IndexOptions::builder()
                .partial_filter_expression(filter)
                .build();
            IndexModel::builder().keys(keys).options(options).build()
        };
        let exists = doc! {"$exists": true};
        let mut idempotency = partial(
            doc! {"owner_id": 1, "idempotency.key": 1},
            doc! {"idempotency.key": &exists},
        );
        if let Some(options) = &mut idempotency.options {
            options.unique = Some(true);
        }
        let tasks = vec![
            // `members` are owner and assignee; what is deleted has none.
            IndexModel::builder()
                .keys(doc! {"members": 1, "created_at": -1, "_id": -1})
                .build(),
            partial(
                doc! {"deleted_at": 1},
                doc! {"deleted_at": {"$type": "date"}},
            ),
            idempotency,
        ];
        let collection = self.tasks.clone();
        run(
            "prepare",
            async move { collection.create_indexes(tasks).await },
        )
        .await?;
        self.outbox.prepare().await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        ping(&self.database).await
    }

    async fn insert(&self, task: &Task, event: &Envelope) -> Result<Vec<Pending>, StoreError> {
        let mut document = task_fields("insert task", task)?;
        document.insert("version", 1_i64);
        document.insert(
            "pending",
            vec![pending_bson("insert task", event, task.version)?],
        );
        document.insert("deleted_at", Bson::Null);
        document.insert("schema", document::SCHEMA);
        let tasks = self.tasks.clone();
        run(
            "insert task",
            async move { tasks.insert_one(document).await },
        )
        .await?;
        Ok(vec![Pending {
            version: task.version,
            event: event.clone(),
        }])
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
        page: &PageRequest<Key>,
    ) -> Result<Page<Task>, StoreError> {
        let user = filter.user.as_str();
        let mut query = doc! {"members": user};
        match filter.role {
            Some(Role::Owner) => query.insert("owner_id", user),
            Some(Role::Assignee) => query.insert("assignee_id", user),
            None => None,
        };
        if let Some(status) = filter.status {
            query.insert("status", status.as_str());
        }
        if let Some(priority) = filter.priority {
            query.insert("priority", priority.as_str());
        }
        if let Some(tag) = &filter.tag {
            query.insert("tags", tag);
        }
        if let Some(Key(created_at, id)) = &page.after {
            let created_at = bson::DateTime::from_millis(*created_at);
            let earlier = doc! {"created_at": {"$lt": created_at}};
            let same = doc! {"created_at": created_at, "_id": {"$lt": id}};
            // The first bound is what the index starts from; the second decides within a moment.
            query.insert("created_at", doc! {"$lte": created_at});
            query.insert("$or", vec![earlier, same]);
        }
        let limit = page.limit;
        let tasks = self.tasks.clone_with_type::<TaskDocument>();
        let found: Vec<TaskDocument> = run("list tasks", async move {
            tasks
                .find(query)
                .sort(doc! {"created_at": -1, "_id": -1})
                .projection(document::projection())
                .limit(limit as i64 + 1)
                .await?
                .try_collect()
                .await
        })
        .await?;
        Ok(Page::new(
            found.into_iter().map(Task::from).collect(),
            limit,
            Key::of,
        ))
    }

    async fn update(&self, task: &Task, event: &Envelope) -> Result<Written, StoreError> {
        let mut set = task_fields("update task", task)?;
        set.remove("_id");
        self.write("update task", task, event, doc! {"$set": set})
            .await
    }

    async fn delete(&self, task: &Task, event: &Envelope) -> Result<Written, StoreError> {
        let at = to_bson(task.updated_at);
        let change = doc! {
            "$set": {"deleted_at": at, "updated_at": at},
            "$unset": {"members": 1},
        };
        self.write("delete task", task, event, change).await
    }

    async fn history(
        &self,
        id: &TaskId,
        page: &PageRequest<u64>,
    ) -> Result<Page<Envelope>, StoreError> {
        self.outbox.history(id.as_str(), page).await
    }

    async fn purge(&self, before: Timestamp) -> Result<u64, StoreError> {
        // `$type` is what lets the partial index be used.
        let gone = doc! {
            "deleted_at": {"$lt": to_bson(before), "$type": "date"},
            "pending.0": {"$exists": false},
        };
        let (tasks, events) = (self.tasks.clone(), self.events.clone());
        run("purge tasks", async move {
            let found = tasks
                .find(gone)
                .projection(doc! {"_id": 1})
                .limit(PURGED_AT_ONCE);
            let found: Vec<Document> = found.await?.try_collect().await?;
            let ids: Vec<Bson> = found
                .iter()
                .filter_map(|task| task.get("_id").cloned())
                .collect();
            if ids.is_empty() {
                return Ok(0);
            }
            // The history first: a crash in between leaves the task to be found again.
            events.delete_many(doc! {"subject": {"$in": &ids}}).await?;
            Ok(tasks
                .delete_many(doc! {"_id": {"$in": ids}})
                .await?
                .deleted_count)
        })
        .await
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

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        self.outbox.backlog().await
    }
}
