//! Implements the port: each call becomes one or several jobs of the database.

use async_trait::async_trait;
use contract::id::{NotificationId, UserId};
use contract::page::PageRequest;
use jiff::Timestamp;
use notifications::domain::{Event, Notification};
use notifications::store::{Change, Counter, Cursor, Expected, Filter, NotificationStore, Outcome};
use stores::{Idempotency, Once, Store, StoreError};

use super::store::SqliteNotifications;
use super::{apply, forget, lists, marks};

#[async_trait]
impl Store for SqliteNotifications {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.database.ping().await
    }
}

#[async_trait]
impl NotificationStore for SqliteNotifications {
    /// Does nothing: [`Self::open`] has prepared everything.
    async fn prepare(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn apply(&self, events: &[Event], now: Timestamp) -> Result<Vec<Outcome>, StoreError> {
        let events = events.to_vec();
        self.database
            .write("apply", move |connection| {
                apply::apply(connection, &events, now)
            })
            .await
    }

    async fn list(
        &self,
        user: &UserId,
        filter: Filter,
        page: &PageRequest<Cursor>,
    ) -> Result<Vec<Notification>, StoreError> {
        let (user, page) = (user.clone(), page.clone());
        self.database
            .read("list", move |connection| {
                lists::list(connection, &user, filter, &page)
            })
            .await
    }

    async fn get(
        &self,
        user: &UserId,
        id: &NotificationId,
    ) -> Result<Option<Notification>, StoreError> {
        let (user, id) = (user.clone(), id.clone());
        self.database
            .read("get", move |connection| lists::get(connection, &user, &id))
            .await
    }

    async fn set_read(
        &self,
        user: &UserId,
        id: &NotificationId,
        read: bool,
        expected: Expected,
    ) -> Result<Change, StoreError> {
        let (user, id) = (user.clone(), id.clone());
        self.database
            .write("set_read", move |connection| {
                marks::set_read(connection, &user, &id, read, expected)
            })
            .await
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
        let (user, id) = (user.clone(), id.clone());
        self.database
            .write("delete", move |connection| {
                marks::delete(connection, &user, &id, expected)
            })
            .await
    }

    async fn counter(&self, user: &UserId) -> Result<Counter, StoreError> {
        let user = user.clone();
        self.database
            .read("counter", move |connection| {
                lists::counter(connection, &user)
            })
            .await
    }

    async fn since(
        &self,
        user: &UserId,
        sequence: u64,
        limit: usize,
    ) -> Result<Vec<Notification>, StoreError> {
        let (user, after) = (user.clone(), i64::try_from(sequence).unwrap_or(i64::MAX));
        self.database
            .read("since", move |connection| {
                lists::since(connection, &user, after, limit)
            })
            .await
    }

    /// Also removes the ids of events and the keys whose lifetime is over.
    async fn purge(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.database
            .write("purge", move |connection| {
                apply::forget_events(connection, now, limit)?;
                forget::forget_keys(connection, now, limit)?;
                marks::purge(connection, now, limit)
            })
            .await
    }

    async fn forget(&self, limit: usize) -> Result<bool, StoreError> {
        let user_to_forget = self.database.read("forget", forget::user_to_forget);
        // Read first, so that the writer is not woken every second in vain.
        let Some(user) = user_to_forget.await? else {
            return Ok(false);
        };
        self.database
            .write("forget", move |connection| {
                forget::forget(connection, &user, limit)
            })
            .await?;
        Ok(true)
    }
}
