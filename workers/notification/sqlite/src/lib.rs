//! Notifications in SQLite, for a platform in one process. Whatever changes a count does it in one job
//! of the writer with what is counted, and jobs run one after the other.

mod apply;
mod export;
mod forget;
mod lists;
mod marks;
mod read_all;

use std::path::Path;

use async_trait::async_trait;
use contract::id::{NotificationId, UserId};
use contract::page::PageRequest;
use jiff::Timestamp;
use notifications::domain::{Event, Notification};
use notifications::store::{Change, Counter, Expected, Filter, Key, NotificationStore, Outcome};
use sqlite::{Database, OpenError};
use stores::{Idempotency, Once, Store, StoreError};

const MIGRATIONS: [&str; 1] = [include_str!("schema.sql")];

pub struct SqliteNotifications {
    database: Database,
}

impl SqliteNotifications {
    /// Opens the file, and makes it where it is missing. It must be this process's alone.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Ok(Self {
            database: Database::open(path, &MIGRATIONS)?,
        })
    }
}

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
    /// [`Self::open`] has.
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
        page: &PageRequest<Key>,
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

    /// Also forgets events and keys whose time is over.
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
        let being_forgotten = self.database.read("forget", forget::being_forgotten);
        // The writer is not woken every second for nothing.
        let Some(user) = being_forgotten.await? else {
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
