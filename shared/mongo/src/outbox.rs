//! The outbox inside the documents of a collection: a change and the event that describes it are one write of
//! one document.
//!
//! A document keeps its unpublished events in `pending`. A published event is first kept in the history's
//! collection, and then removed from its document. The event's subject is `_id` in the document, and `subject`
//! in the history.

use std::collections::BTreeMap;
use std::time::Duration;

use bson::{Bson, Document, RawDocumentBuf, doc};
use contract::event::{Envelope, EventType};
use contract::page::{Page, PageRequest};
use events::bus::refill::History;
use events::outbox::{Backlog, Pending};
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt, TryStreamExt};
use jiff::Timestamp;
use mongodb::error::Error;
use mongodb::options::IndexOptions;
use mongodb::{Collection, Cursor, Database, IndexModel};
use runtime::error::chain;
use serde::{Deserialize, Serialize};
use stores::StoreError;

use super::{from_bson, insert_missing, run, to_bson};

/// One read of the outbox brings at most this, and one more document, into memory.
const MAX_READ_BYTES: usize = 4 << 20;
/// Documents in one batch from the server. Few, because each may be large.
const READ_BATCH: u32 = 64;
/// The backlog is counted up to here; a larger count would cost more than it tells.
const MAX_COUNT: u64 = 10_000;

/// The outbox of one collection. It has the methods of [`events::outbox::Outbox`], to which a store that
/// embeds it delegates.
#[derive(Clone)]
pub struct EmbeddedOutbox {
    database: Database,
    subjects: Collection<Document>,
    history: Collection<Document>,
    /// The holder of the sweep, one document for each outbox of the database.
    sweepers: Collection<Document>,
}

impl EmbeddedOutbox {
    /// `subjects` is the collection whose documents hold unpublished events; `history` holds published ones.
    pub fn new(database: &Database, subjects: &str, history: &str) -> Self {
        Self {
            subjects: database.collection(subjects),
            history: database.collection(history),
            sweepers: database.collection("sweepers"),
            database: database.clone(),
        }
    }

    /// Makes the indexes of both collections. Safe to repeat.
    pub async fn prepare(&self) -> Result<(), StoreError> {
        let waiting = IndexOptions::builder()
            .partial_filter_expression(doc! {"pending.0": {"$exists": true}})
            .build();
        let waiting = IndexModel::builder()
            .keys(doc! {"pending.0.at": 1})
            .options(waiting)
            .build();
        let versions = IndexModel::builder()
            .keys(doc! {"subject": 1, "version": 1})
            .build();
        let times = IndexModel::builder()
            .keys(doc! {"type": 1, "at": 1})
            .build();
        let (subjects, history) = (self.subjects.clone(), self.history.clone());
        run("prepare outbox", async move {
            subjects.create_index(waiting).await?;
            history.create_indexes([versions, times]).await
        })
        .await?;
        Ok(())
    }

    pub async fn pending(
        &self,
        older_than: Timestamp,
        limit: usize,
    ) -> Result<Vec<Pending>, StoreError> {
        const OPERATION: &str = "read outbox";
        let subjects = self.subjects.clone_with_type::<RawDocumentBuf>();
        let old =
            doc! {"pending.0": {"$exists": true}, "pending.0.at": {"$lte": to_bson(older_than)}};
        run(OPERATION, async move {
            let mut found = subjects
                .find(old)
                .sort(doc! {"pending.0.at": 1})
                .projection(doc! {"pending": 1})
                .limit(limit as i64)
                .batch_size(READ_BATCH)
                .await?;
            let (mut events, mut bytes) = (Vec::new(), 0);
            while events.len() < limit && bytes < MAX_READ_BYTES {
                let Some(subject) = found.next().await.transpose()? else {
                    break;
                };
                bytes += subject.as_bytes().len();
                let subject =
                    Document::try_from(&subject).map_err(|why| StoreError::corrupt(OPERATION, why));
                events.extend(readable(
                    subject.and_then(|subject| pending(OPERATION, &subject)),
                ));
            }
            events.truncate(limit);
            Ok(events)
        })
        .await
    }

    pub async fn mark_published(&self, published: &[Pending]) -> Result<(), StoreError> {
        const OPERATION: &str = "mark published";
        let mut kept = Vec::with_capacity(published.len());
        let mut versions: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
        for Pending { version, event } in published {
            let mut history = doc! {"_id": &event.id, "subject": &event.subject};
            if let Bson::Document(fields) = pending_bson(OPERATION, event, *version)? {
                history.extend(fields);
            }
            kept.push(history);
            let version =
                i64::try_from(*version).map_err(|why| StoreError::corrupt(OPERATION, why))?;
            versions.entry(&event.subject).or_default().push(version);
        }
        // Most events are the first version of their subject, so one statement removes most of them.
        let mut subjects: BTreeMap<Vec<i64>, Vec<&str>> = BTreeMap::new();
        for (subject, versions) in versions {
            subjects.entry(versions).or_default().push(subject);
        }
        let updates: Vec<Document> = subjects
            .into_iter()
            .map(|(versions, subjects)| {
                let exactly = doc! {"pending": {"version": {"$in": versions}}};
                doc! {"q": {"_id": {"$in": subjects}}, "u": {"$pull": exactly}, "multi": true}
            })
            .collect();
        let removal = doc! {
            "update": self.subjects.name(),
            "updates": updates,
            "ordered": false,
            // Not only for durability: the next read sees what a majority has, and must not find them.
            "writeConcern": {"w": "majority"},
        };
        let (history, database) = (self.history.clone(), self.database.clone());
        run(OPERATION, async move {
            // The history first: an event that is removed from the outbox must be in the history.
            insert_missing(&history, kept).await?;
            let reply = database.run_command(removal).await?;
            let errors = ["writeErrors", "writeConcernError"].map(|name| reply.get(name));
            match errors.into_iter().flatten().next() {
                Some(error) => Err(Error::custom(format!(
                    "the outbox was not cleared: {error}"
                ))),
                None => Ok(()),
            }
        })
        .await
    }

    /// Uses the server's clock. If two holders claim the sweep at the same time, one of them gets it.
    pub async fn claim_sweep(&self, holder: &str, hold: Duration) -> Result<bool, StoreError> {
        let free = doc! {"$or": [
            {"$eq": ["$holder", {"$literal": holder}]},
            {"$lt": ["$until", "$$NOW"]},
        ]};
        let until = doc! {"$add": ["$$NOW", i64::try_from(hold.as_millis()).unwrap_or(i64::MAX)]};
        let claim = doc! {"$set": {"holder": {"$literal": holder}, "until": until}};
        let (sweepers, outbox) = (self.sweepers.clone(), self.subjects.name().to_owned());
        run("claim sweep", async move {
            let claimed = sweepers
                .update_one(doc! {"_id": &outbox, "$expr": free}, vec![claim])
                .await?;
            if claimed.matched_count == 0 {
                // Another holder has it, or the document is missing; then the next claim finds it free.
                let nobody = doc! {"_id": outbox, "holder": "", "until": bson::DateTime::MIN};
                insert_missing(&sweepers, vec![nobody]).await?;
            }
            Ok(claimed.matched_count == 1)
        })
        .await
    }

    pub async fn backlog(&self) -> Result<Backlog, StoreError> {
        // This bound excludes nothing, but without it the index would not be used.
        let some_time = doc! {"$gte": bson::DateTime::MIN};
        let waiting = doc! {"pending.0": {"$exists": true}, "pending.0.at": some_time};
        let subjects = self.subjects.clone();
        run("measure outbox", async move {
            let oldest = subjects
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
            let count = subjects.count_documents(waiting).limit(MAX_COUNT).await?;
            Ok(Backlog {
                subjects: count,
                oldest: first
                    .and_then(|first| first.get_datetime("at").ok())
                    .copied()
                    .map(from_bson),
            })
        })
        .await
    }

    /// A subject's events after a version, in version order, published or not.
    ///
    /// Unpublished events are read first: an event that is published in between is then found twice, never
    /// missed.
    pub async fn history(
        &self,
        subject: &str,
        page: &PageRequest<u64>,
    ) -> Result<Page<Envelope>, StoreError> {
        const OPERATION: &str = "read history";
        let after = page
            .after
            .map_or(0, |version| i64::try_from(version).unwrap_or(i64::MAX));
        let limit = page.limit;
        let (subjects, history) = (
            self.subjects.clone(),
            self.history.clone_with_type::<PendingDocument>(),
        );
        let subject = subject.to_owned();
        let (waiting, published) = run(OPERATION, async move {
            let waiting = subjects
                .find_one(doc! {"_id": &subject})
                .projection(doc! {"pending": 1})
                .await?;
            let published: Vec<PendingDocument> = history
                .find(doc! {"subject": subject, "version": {"$gt": after}})
                .sort(doc! {"version": 1})
                .limit(limit as i64 + 1)
                .await?
                .try_collect()
                .await?;
            Ok((waiting, published))
        })
        .await?;
        let waiting = match waiting {
            Some(document) => pending(OPERATION, &document)?,
            None => Vec::new(),
        };
        let mut all: BTreeMap<u64, Envelope> = published
            .into_iter()
            .map(Pending::from)
            .chain(waiting)
            .map(|pending| (pending.version, pending.event))
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
}

impl History for EmbeddedOutbox {
    fn events_since(
        &self,
        event_type: EventType,
        since: Timestamp,
    ) -> BoxStream<'static, Result<Envelope, StoreError>> {
        const OPERATION: &str = "read what was told";
        let (subjects, history) = (self.subjects.clone(), self.history.clone());
        // Sorted by time: an event that is published meanwhile only moves its document towards later times.
        let some_time = doc! {"$gte": bson::DateTime::MIN};
        let waiting = documents(OPERATION, async move {
            subjects
                .find(doc! {"pending.0": {"$exists": true}, "pending.0.at": some_time})
                .sort(doc! {"pending.0.at": 1})
                .projection(doc! {"pending": 1})
                .batch_size(READ_BATCH)
                .await
        });
        let waiting = waiting.map_ok(|subject| readable(pending(OPERATION, &subject)));
        let published = documents(OPERATION, async move {
            history
                .find(doc! {"type": event_type.as_str(), "at": {"$gte": to_bson(since)}})
                .sort(doc! {"at": 1})
                .await
        });
        let published = published.map_ok(|event| {
            let event = bson::deserialize_from_document::<PendingDocument>(event);
            readable(
                event
                    .map(|event| vec![event.into()])
                    .map_err(|why| StoreError::corrupt(OPERATION, why)),
            )
        });
        // The history is read after the outbox has ended.
        waiting
            .chain(published)
            .map_ok(|some| stream::iter(some).map(|pending| Ok(pending.event)))
            .try_flatten()
            .try_filter(move |event| std::future::ready(event.event_type == event_type))
            .boxed()
    }
}

/// The events of a document. A document that cannot be read is logged and skipped, so that it does not stop
/// the events of all others.
fn readable(events: Result<Vec<Pending>, StoreError>) -> Vec<Pending> {
    events.unwrap_or_else(|error| {
        tracing::error!(error = chain(&error), "a document has unreadable events");
        Vec::new()
    })
}

/// The documents that a query finds. Each read of the cursor has a call's deadline.
fn documents(
    operation: &'static str,
    open: impl Future<Output = mongodb::error::Result<Cursor<Document>>> + Send + 'static,
) -> impl Stream<Item = Result<Document, StoreError>> {
    let next = move |mut cursor: Cursor<Document>| {
        run(operation, async move {
            let next = cursor.try_next().await?;
            Ok(next.map(|document| (document, cursor)))
        })
    };
    stream::once(run(operation, open))
        .map_ok(move |cursor| stream::try_unfold(cursor, next))
        .try_flatten()
}

/// An unpublished event inside its document, or a published one of the history.
#[derive(Serialize, Deserialize)]
struct PendingDocument {
    version: i64,
    event: Envelope,
}

impl From<PendingDocument> for Pending {
    fn from(document: PendingDocument) -> Self {
        Self {
            version: document.version.unsigned_abs(),
            event: document.event,
        }
    }
}

/// An event as an element of `pending`.
pub fn pending_bson(
    operation: &'static str,
    event: &Envelope,
    version: u64,
) -> Result<Bson, StoreError> {
    let corrupt = |why| StoreError::corrupt(operation, why);
    let version = i64::try_from(version).map_err(|why| StoreError::corrupt(operation, why))?;
    Ok(Bson::Document(doc! {
        "version": version,
        "type": event.event_type.as_str(),
        "at": to_bson(event.time),
        "event": bson::serialize_to_bson(event).map_err(corrupt)?,
    }))
}

/// The unpublished events of a document, in version order.
pub fn pending(operation: &'static str, document: &Document) -> Result<Vec<Pending>, StoreError> {
    #[derive(Deserialize)]
    struct Holder {
        #[serde(default)]
        pending: Vec<PendingDocument>,
    }
    let holder: Holder = bson::deserialize_from_document(document.clone())
        .map_err(|why| StoreError::corrupt(operation, why))?;
    let mut pending: Vec<_> = holder.pending.into_iter().map(Pending::from).collect();
    pending.sort_unstable_by_key(|pending| pending.version);
    Ok(pending)
}
