//! Idempotency keys in MongoDB.
//!
//! A key is stored in the document of the task that its request created. So a task and its key are one
//! write, and a unique index decides which of two requests with one key creates the task. The first
//! answer is not stored again: the task's first event holds it, in the outbox or in the history. A key
//! must never be given up before its lifetime ends.

use std::time::Duration;

use bson::{DateTime, Document, doc};
use contract::id::TaskId;
use contract::page::PageRequest;
use events::outbox::Pending;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use mongo::{run, to_bson};
use serde::Deserialize;
use stores::StoreError;
use stores::idempotency::{Idempotency, LIFETIME, Once};
use tasks::domain::Task;

use super::{CLEANUP_BATCH, MongoTaskStore};

/// How often an insert is tried while its key is taken but no task with that key can be read: the key is
/// being released, or the write of its task is not durable yet.
const MAX_ATTEMPTS: u32 = 20;
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// A task that has a key, with that key.
#[derive(Deserialize)]
struct TaskWithKey {
    #[serde(rename = "_id")]
    id: TaskId,
    idempotency: StoredKey,
}

#[derive(Deserialize)]
struct StoredKey {
    body: String,
    at: DateTime,
}

impl MongoTaskStore {
    /// Inserts the task's document with its key. `None` if it was inserted; otherwise the outcome of the
    /// key's first request.
    pub(super) async fn insert_keyed(
        &self,
        task: &Task,
        mut document: Document,
        idempotency: &Idempotency,
    ) -> Result<Option<Once<Vec<Pending>, Task>>, StoreError> {
        let (key, body) = (idempotency.key.to_hex(), idempotency.body.to_hex());
        let at = to_bson(task.created_at);
        document.insert("idempotency", doc! {"key": &key, "body": &body, "at": at});
        for _ in 0..MAX_ATTEMPTS {
            if self.inserts.insert(document.clone()).await? {
                return Ok(None);
            }
            if let Some(first) = self.find_keyed(task, &key).await? {
                if first.idempotency.at <= to_bson(task.created_at - LIFETIME) {
                    self.release(&first).await?;
                    continue;
                }
                if first.idempotency.body != body {
                    return Ok(Some(Once::Mismatch));
                }
                return Ok(Some(Once::Before(self.first_version(&first.id).await?)));
            }
            tokio::time::sleep(RETRY_DELAY).await;
        }
        Ok(Some(Once::InFlight))
    }

    /// Finds deleted tasks too: a tombstone keeps its key.
    async fn find_keyed(&self, task: &Task, key: &str) -> Result<Option<TaskWithKey>, StoreError> {
        let tasks = self.tasks.clone_with_type::<TaskWithKey>();
        let mine = doc! {"owner_id": task.owner_id.as_str(), "idempotency.key": key};
        run("find key", async move {
            tasks
                .find_one(mine)
                .projection(doc! {"idempotency": 1})
                .await
        })
        .await
    }

    /// Removes an expired key from its task. Changes nothing if another request has done so already.
    async fn release(&self, expired: &TaskWithKey) -> Result<(), StoreError> {
        let tasks = self.tasks.clone();
        let as_found = doc! {"_id": expired.id.as_str(), "idempotency.at": expired.idempotency.at};
        run("release key", async move {
            tasks
                .update_one(as_found, doc! {"$unset": {"idempotency": 1}})
                .await
        })
        .await?;
        Ok(())
    }

    async fn first_version(&self, id: &TaskId) -> Result<Task, StoreError> {
        const OPERATION: &str = "read first answer";
        let first = PageRequest {
            limit: 1,
            after: None,
        };
        let events = self.outbox.history(id.as_str(), &first).await?;
        let created = format!("{id}:1");
        let created = events
            .items
            .first()
            .filter(|event| event.id == created)
            .ok_or_else(|| StoreError::corrupt(OPERATION, "a task without its first event"))?;
        Task::from_event(created).map_err(|why| StoreError::corrupt(OPERATION, why))
    }

    pub(super) async fn forget_keys_before(&self, before: Timestamp) -> Result<u64, StoreError> {
        let tasks = self.tasks.clone();
        let old = doc! {"idempotency.at": {"$lt": to_bson(before)}};
        run("forget keys", async move {
            let found = tasks
                .find(old)
                .projection(doc! {"_id": 1})
                .limit(CLEANUP_BATCH);
            let found: Vec<Document> = found.await?.try_collect().await?;
            let ids: Vec<_> = found.iter().filter_map(|task| task.get("_id")).collect();
            if ids.is_empty() {
                return Ok(0);
            }
            // A task's key never changes, so these are still the keys that were found.
            let these = doc! {"_id": {"$in": ids}};
            let forgotten = tasks.update_many(these, doc! {"$unset": {"idempotency": 1}});
            Ok(forgotten.await?.modified_count)
        })
        .await
    }
}
