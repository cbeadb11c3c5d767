//! Events on their way: from the task's document through the relay into the history.

use std::collections::BTreeMap;

use bson::{Document, doc};
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use mongodb::error::{Error, ErrorKind};
use shared::event::Envelope;
use shared::id::TaskId;
use shared::mongo::{from_bson, run, to_bson};
use shared::outbox::{Backlog, Pending};
use shared::page::{Page, PageRequest};
use shared::store::{StoreError, chain};

use super::document::{self, PendingDocument, pending_bson};
use super::{MongoTaskStore, TASKS};

/// One look into the outbox brings no more than this (and one document) into memory.
const MAX_LOOK_BYTES: usize = 4 << 20;
/// Tasks in one batch from the server: each may be large.
const LOOK_BATCH: u32 = 64;
/// Counting further would cost more than anybody learns from it.
const MAX_COUNT: u64 = 10_000;
const DUPLICATE_KEY: i32 = 11000;

pub(super) async fn pending(
    store: &MongoTaskStore,
    older_than: Timestamp,
    limit: usize,
) -> Result<Vec<Pending>, StoreError> {
    let tasks = store.tasks.clone_with_type::<bson::RawDocumentBuf>();
    let old = doc! {"pending.0": {"$exists": true}, "pending.0.at": {"$lte": to_bson(older_than)}};
    run("read outbox", async move {
        let mut found = tasks
            .find(old)
            .sort(doc! {"pending.0.at": 1})
            .projection(doc! {"pending": 1})
            .limit(limit as i64)
            .batch_size(LOOK_BATCH)
            .await?;
        let (mut events, mut bytes) = (Vec::new(), 0);
        while events.len() < limit && bytes < MAX_LOOK_BYTES {
            let Some(task) = found.next().await.transpose()? else {
                break;
            };
            bytes += task.as_bytes().len();
            match Document::try_from(&task)
                .map_err(|why| StoreError::corrupt("read outbox", why))
                .and_then(|task| document::pending("read outbox", &task))
            {
                Ok(pending) => events.extend(pending),
                // Whoever wrote it, it must not stop the events of all others.
                Err(error) => {
                    tracing::error!(error = chain(&error), "a task has unreadable events");
                }
            }
        }
        events.truncate(limit);
        Ok(events)
    })
    .await
}

pub(super) async fn mark_published(
    store: &MongoTaskStore,
    published: &[Pending],
) -> Result<(), StoreError> {
    const OPERATION: &str = "mark published";
    let mut kept = Vec::with_capacity(published.len());
    let mut versions: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for Pending { version, event } in published {
        let mut history = doc! {"_id": &event.id, "task_id": &event.subject};
        if let bson::Bson::Document(fields) = pending_bson(OPERATION, event, *version)? {
            history.extend(fields);
        }
        kept.push(history);
        let version = i64::try_from(*version).map_err(|why| StoreError::corrupt(OPERATION, why))?;
        versions.entry(&event.subject).or_default().push(version);
    }
    let updates: Vec<Document> = versions
        .into_iter()
        .map(|(id, versions)| {
            let exactly = doc! {"pending": {"version": {"$in": versions}}};
            doc! {"q": {"_id": id}, "u": {"$pull": exactly}}
        })
        .collect();
    let removal = doc! {
        "update": TASKS,
        "updates": updates,
        "ordered": false,
        // Not only for durability: the next look reads what a majority has, and must not find them.
        "writeConcern": {"w": "majority"},
    };
    let (events, database) = (store.events.clone(), store.database.clone());
    run(OPERATION, async move {
        // The history first: once removed from the outbox, an event is nowhere else.
        match events.insert_many(kept).ordered(false).await {
            Ok(_) => {}
            Err(error) if only_duplicates(&error) => {}
            Err(error) => return Err(error),
        }
        let reply = database.run_command(removal).await?;
        match reply.get_array("writeErrors") {
            Ok(errors) if !errors.is_empty() => Err(Error::custom(format!(
                "the outbox was not cleared: {errors:?}"
            ))),
            _ => Ok(()),
        }
    })
    .await
}

/// Whether all that failed was there already: published before, and not removed.
fn only_duplicates(error: &Error) -> bool {
    let ErrorKind::InsertMany(failed) = &*error.kind else {
        return false;
    };
    let duplicate = |write: &mongodb::error::IndexedWriteError| write.code == DUPLICATE_KEY;
    failed.write_concern_error.is_none()
        && failed
            .write_errors
            .as_deref()
            .is_some_and(|errors| errors.iter().all(duplicate))
}

pub(super) async fn backlog(store: &MongoTaskStore) -> Result<Backlog, StoreError> {
    // The bound says nothing, but without it the index would not be used.
    let some_time = doc! {"$gte": bson::DateTime::MIN};
    let waiting = doc! {"pending.0": {"$exists": true}, "pending.0.at": some_time};
    let tasks = store.tasks.clone();
    run("measure outbox", async move {
        let oldest = tasks
            .find_one(waiting.clone())
            .sort(doc! {"pending.0.at": 1})
            .projection(doc! {"pending.at": 1})
            .await?;
        let Some(oldest) = oldest else {
            return Ok(Backlog::default());
        };
        let first = oldest
            .get_array("pending")
            .ok()
            .and_then(|all| all.first()?.as_document());
        let subjects = tasks.count_documents(waiting).limit(MAX_COUNT).await?;
        Ok(Backlog {
            subjects,
            oldest: first
                .and_then(|first| first.get_datetime("at").ok())
                .copied()
                .map(from_bson),
        })
    })
    .await
}

/// Unpublished events are read first: one that is published in between is then found twice, never
/// missed.
pub(super) async fn history(
    store: &MongoTaskStore,
    id: &TaskId,
    page: &PageRequest<u64>,
) -> Result<Page<Envelope>, StoreError> {
    const OPERATION: &str = "read history";
    let after = page
        .after
        .map_or(0, |version| i64::try_from(version).unwrap_or(i64::MAX));
    let limit = page.limit;
    let (tasks, events) = (
        store.tasks.clone(),
        store.events.clone_with_type::<PendingDocument>(),
    );
    let id = id.as_str().to_owned();
    let (task, published) = run(OPERATION, async move {
        let task = tasks
            .find_one(doc! {"_id": &id})
            .projection(doc! {"pending": 1})
            .await?;
        let published: Vec<PendingDocument> = events
            .find(doc! {"task_id": id, "version": {"$gt": after}})
            .sort(doc! {"version": 1})
            .limit(limit as i64 + 1)
            .await?
            .try_collect()
            .await?;
        Ok((task, published))
    })
    .await?;
    let waiting = match task {
        Some(task) => document::pending(OPERATION, &task)?,
        None => Vec::new(),
    };
    let mut all: BTreeMap<u64, Envelope> = published
        .into_iter()
        .map(Pending::from)
        .chain(waiting)
        .map(|one| (one.version, one.event))
        .filter(|(version, _)| i64::try_from(*version).is_ok_and(|version| version > after))
        .collect();
    let mut items = Vec::new();
    while items.len() <= limit
        && let Some(next) = all.pop_first()
    {
        items.push(next);
    }
    Ok(Page::new(items, limit, |(version, _)| *version).map(|(_, event)| event))
}
