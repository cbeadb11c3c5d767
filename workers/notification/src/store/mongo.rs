//! Notifications in MongoDB: `notifications`, `processed` (ids of applied events) and `counters`
//! (one document per user: `sequence`, `unread`, `purged`).
//!
//! Whatever changes a count does it in one transaction with what is counted. Transactions run under
//! snapshot isolation: two that touch one user's counter cannot both commit, and the later one starts
//! over on what the earlier one left. So a sequence number becomes visible only after all smaller
//! ones, and no count is lost.

mod apply;
mod document;
mod hints;
mod marks;
mod transaction;

use std::time::Duration;

use async_trait::async_trait;
use bson::{Document, doc};
use futures_util::{FutureExt, TryStreamExt};
use jiff::Timestamp;
use mongodb::error::{Error, Result as MongoResult};
use mongodb::options::IndexOptions;
use mongodb::{ClientSession, Collection, Database, IndexModel};
use shared::id::{NotificationId, UserId};
use shared::mongo::{self, to_bson};
use shared::page::PageRequest;
use shared::store::StoreError;

use self::document::{CounterDocument, NotificationDocument};
use super::{Counter, Filter, Hints, Key, NotificationStore, Outcome};
use crate::domain::{Entry, MEMORY, Notification};

/// A batch that collides this often is tried again with half as much.
const MAX_COLLISIONS: u32 = 4;

#[derive(Clone)]
pub struct MongoNotifications {
    database: Database,
    notifications: Collection<NotificationDocument>,
    processed: Collection<Document>,
    counters: Collection<CounterDocument>,
}

impl MongoNotifications {
    pub fn new(database: Database) -> Self {
        Self {
            notifications: database.collection("notifications"),
            processed: database.collection("processed"),
            counters: database.collection("counters"),
            database,
        }
    }
}

#[async_trait]
impl NotificationStore for MongoNotifications {
    async fn prepare(&self) -> Result<(), StoreError> {
        let this = self.clone();
        let index = |keys| IndexModel::builder().keys(keys).build();
        mongo::run("prepare", async move {
            let lists = [
                index(doc! {"user_id": 1, "created_at": -1, "_id": -1}),
                index(doc! {"user_id": 1, "read": 1, "created_at": -1, "_id": -1}),
                index(doc! {"user_id": 1, "type": 1, "created_at": -1, "_id": -1}),
                index(doc! {"expires_at": 1}),
                IndexModel::builder()
                    .keys(doc! {"user_id": 1, "sequence": 1})
                    .options(IndexOptions::builder().unique(true).build())
                    .build(),
            ];
            this.notifications.create_indexes(lists).await?;
            let memory = Duration::from_secs(MEMORY.as_secs().unsigned_abs());
            let forget = IndexModel::builder()
                .keys(doc! {"at": 1})
                .options(IndexOptions::builder().expire_after(memory).build())
                .build();
            this.processed.create_index(forget).await?;
            // Transactions must find their collections: this makes the third one.
            this.counters.create_index(index(doc! {"_id": 1})).await?;
            Ok(())
        })
        .await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        mongo::ping(&self.database).await
    }

    async fn apply(&self, entries: &[Entry], now: Timestamp) -> Result<Vec<Outcome>, StoreError> {
        let mut outcomes = Vec::with_capacity(entries.len());
        let mut size = entries.len();
        while outcomes.len() < entries.len() {
            let rest = &entries[outcomes.len()..];
            let (this, part) = (self.clone(), rest[..size.min(rest.len())].to_vec());
            let alone = part.len() == 1;
            let applied = mongo::run("apply", async move {
                let max_collisions = if alone { u32::MAX } else { MAX_COLLISIONS };
                this.transaction(max_collisions, (part, now), |this, session, (part, now)| {
                    this.apply_in(session, part, *now).boxed()
                })
                .await
            });
            match applied.await? {
                Some(applied) => outcomes.extend(applied),
                None => size = (size / 2).max(1),
            }
        }
        Ok(outcomes)
    }

    async fn list(
        &self,
        user: &UserId,
        filter: Filter,
        page: &PageRequest<Key>,
    ) -> Result<Vec<Notification>, StoreError> {
        let mut query = doc! {"user_id": user.as_str()};
        if let Some(read) = filter.read {
            query.insert("read", read);
        }
        if let Some(kind) = filter.kind {
            query.insert("type", kind.as_str());
        }
        if let Some(after) = &page.after {
            let time = to_bson(after.created_at);
            // The first condition bounds the index; the second leaves out what shares the time.
            query.insert("created_at", doc! {"$lte": time});
            query.insert(
                "$or",
                [
                    doc! {"created_at": {"$lt": time}},
                    doc! {"created_at": time, "_id": {"$lt": &after.id}},
                ]
                .to_vec(),
            );
        }
        let latest_first = doc! {"created_at": -1, "_id": -1};
        self.find("list", query, latest_first, page.limit + 1).await
    }

    async fn get(
        &self,
        user: &UserId,
        id: &NotificationId,
    ) -> Result<Option<Notification>, StoreError> {
        let notifications = self.notifications.clone();
        let query = doc! {"_id": id.as_str(), "user_id": user.as_str()};
        let found = mongo::run("get", async move { notifications.find_one(query).await }).await?;
        Ok(found.map(Notification::from))
    }

    async fn set_read(
        &self,
        user: &UserId,
        id: &NotificationId,
        read: bool,
    ) -> Result<Option<Notification>, StoreError> {
        let this = self.clone();
        let wanted = (user.clone(), id.clone(), read);
        let marked = mongo::run("set_read", async move {
            this.transaction(u32::MAX, wanted, |this, session, (user, id, read)| {
                this.set_read_in(session, user, id, *read).boxed()
            })
            .await
        });
        Ok(marked.await?.flatten().map(Notification::from))
    }

    async fn set_all_read(&self, user: &UserId) -> Result<u64, StoreError> {
        // What arrives meanwhile stays unread, so this ends.
        let up_to = self.counter(user).await?.sequence.cast_signed();
        let mut updated = 0;
        loop {
            let (this, wanted) = (self.clone(), (user.clone(), up_to));
            let marked = mongo::run("set_all_read", async move {
                this.transaction(u32::MAX, wanted, |this, session, (user, up_to)| {
                    this.read_some_in(session, user, *up_to).boxed()
                })
                .await
            });
            match marked.await?.unwrap_or_default() {
                0 => return Ok(updated),
                some => updated += some as u64,
            }
        }
    }

    async fn delete(&self, user: &UserId, id: &NotificationId) -> Result<bool, StoreError> {
        let (this, wanted) = (self.clone(), (user.clone(), id.clone()));
        let deleted = mongo::run("delete", async move {
            this.transaction(u32::MAX, wanted, |this, session, (user, id)| {
                this.delete_in(session, user, id).boxed()
            })
            .await
        });
        Ok(deleted.await?.unwrap_or_default())
    }

    async fn counter(&self, user: &UserId) -> Result<Counter, StoreError> {
        let counters = self.counters.clone();
        let query = doc! {"_id": user.as_str()};
        let found = mongo::run("counter", async move { counters.find_one(query).await }).await?;
        Ok(found.map(Counter::from).unwrap_or_default())
    }

    async fn since(
        &self,
        user: &UserId,
        sequence: u64,
        limit: usize,
    ) -> Result<Vec<Notification>, StoreError> {
        let after = i64::try_from(sequence).unwrap_or(i64::MAX);
        let query = doc! {"user_id": user.as_str(), "sequence": {"$gt": after}};
        self.find("since", query, doc! {"sequence": 1}, limit).await
    }

    async fn hints(&self) -> Result<Box<dyn Hints>, StoreError> {
        hints::watch(&self.counters).await
    }

    async fn purge(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let this = self.clone();
        let purged = mongo::run("purge", async move {
            this.transaction(u32::MAX, (now, limit), |this, session, (now, limit)| {
                this.purge_in(session, *now, *limit).boxed()
            })
            .await
        });
        Ok(purged.await?.unwrap_or_default())
    }
}

impl MongoNotifications {
    async fn find(
        &self,
        operation: &'static str,
        query: Document,
        order: Document,
        limit: usize,
    ) -> Result<Vec<Notification>, StoreError> {
        let notifications = self.notifications.clone();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let found: Vec<NotificationDocument> = mongo::run(operation, async move {
            let found = notifications.find(query).sort(order).limit(limit);
            found.await?.try_collect().await
        })
        .await?;
        Ok(found.into_iter().map(Notification::from).collect())
    }

    /// One command for any number of users: a round trip each would make large batches slow.
    async fn update_counters(
        &self,
        session: &mut ClientSession,
        updates: Vec<Document>,
    ) -> MongoResult<()> {
        let command = doc! {"update": self.counters.name(), "updates": updates, "ordered": true};
        let reply = self.database.run_command(command).session(session).await?;
        // A command that did only a part still says `ok`.
        match reply.get_array("writeErrors") {
            Ok(errors) if !errors.is_empty() => Err(Error::custom(format!(
                "counters were not updated: {errors:?}"
            ))),
            _ => Ok(()),
        }
    }
}
