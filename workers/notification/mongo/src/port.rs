//! Implements the port: each call becomes one or several transactions or reads.

use async_trait::async_trait;
use bson::doc;
use contract::id::{NotificationId, UserId};
use contract::page::PageRequest;
use futures_util::FutureExt;
use jiff::Timestamp;
use notifications::domain::{Event, Notification};
use notifications::store::{Change, Counter, Cursor, Expected, Filter, NotificationStore, Outcome};
use stores::{Idempotency, Once, Store, StoreError};

use super::store::MongoNotifications;

#[async_trait]
impl Store for MongoNotifications {
    fn name(&self) -> &'static str {
        "mongodb"
    }

    async fn ping(&self) -> Result<(), StoreError> {
        mongo::ping(&self.database).await
    }
}

#[async_trait]
impl NotificationStore for MongoNotifications {
    async fn prepare(&self) -> Result<(), StoreError> {
        let this = self.clone();
        mongo::run("prepare", async move { this.create_all_indexes().await }).await
    }

    async fn apply(&self, events: &[Event], now: Timestamp) -> Result<Vec<Outcome>, StoreError> {
        let mut outcomes = Vec::with_capacity(events.len());
        let mut batch_size = events.len();
        while outcomes.len() < events.len() {
            let rest = &events[outcomes.len()..];
            let (this, part) = (self.clone(), rest[..batch_size.min(rest.len())].into());
            let applied = mongo::run("apply", async move { this.apply_batch(part, now).await });
            match applied.await? {
                Some(applied) => outcomes.extend(applied),
                None => batch_size = (batch_size / 2).max(1),
            }
        }
        Ok(outcomes)
    }

    async fn list(
        &self,
        user: &UserId,
        filter: Filter,
        page: &PageRequest<Cursor>,
    ) -> Result<Vec<Notification>, StoreError> {
        self.list_page(user, filter, page).await
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
        expected: Expected,
    ) -> Result<Change, StoreError> {
        let this = self.clone();
        let wanted = (user.clone(), id.clone(), read, expected);
        let changed = mongo::run("set_read", async move {
            this.transaction(
                u32::MAX,
                wanted,
                |this, session, (user, id, read, expected)| {
                    this.set_read_in(session, user, id, *read, *expected)
                        .boxed()
                },
            )
            .await
        });
        Ok(changed.await?.unwrap_or(Change::Missing))
    }

    async fn set_all_read(
        &self,
        user: &UserId,
        key: Option<&Idempotency>,
        now: Timestamp,
    ) -> Result<Once<u64, u64>, StoreError> {
        match key {
            None => self.read_all(user).await.map(Once::New),
            Some(key) => self.read_all_once(user, key, now).await,
        }
    }

    async fn delete(
        &self,
        user: &UserId,
        id: &NotificationId,
        expected: Expected,
    ) -> Result<Change, StoreError> {
        let (this, wanted) = (self.clone(), (user.clone(), id.clone(), expected));
        let deleted = mongo::run("delete", async move {
            this.transaction(u32::MAX, wanted, |this, session, (user, id, expected)| {
                this.delete_in(session, user, id, *expected).boxed()
            })
            .await
        });
        Ok(deleted.await?.unwrap_or(Change::Missing))
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

    async fn forget(&self, limit: usize) -> Result<bool, StoreError> {
        let this = self.clone();
        let found = mongo::run("forget", async move {
            let Some(user) = this.user_to_forget().await? else {
                return Ok(false);
            };
            let wanted = (user, limit);
            this.transaction(u32::MAX, wanted, |this, session, (user, limit)| {
                this.forget_in(session, user, *limit).boxed()
            })
            .await?;
            Ok(true)
        });
        found.await
    }
}
