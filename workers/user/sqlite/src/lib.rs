//! Accounts and sessions in SQLite, for the standalone platform.
//!
//! Every decision is one job of the single writer, so nothing can change between a read and the
//! write that depends on it.

mod accounts;
mod attempts;
mod sessions;

use std::path::Path;

use async_trait::async_trait;
use contract::event::Envelope;
use contract::id::{SessionId, UserId};
use contract::page::{Page, PageRequest};
use contract::revocation::Ended;
use events::outbox::{Backlog, Outbox, Pending};
use jiff::Timestamp;
use sqlite::{Database, OpenError, outbox};
use stores::{Store, StoreError};
use users::domain::{
    CounterKey, EmailKey, PasswordHash, Quota, Session, TokenFamily, TokenHash, User,
};
use users::store::transfer::Account;
use users::store::{AttemptDecision, SaveUserError, SessionKey, UserStore};

const MIGRATIONS: [&str; 2] = [outbox::SCHEMA, include_str!("schema.sql")];

/// A [`UserStore`] on SQLite.
pub struct SqliteUserStore {
    database: Database,
}

impl SqliteUserStore {
    /// Opens the file, or creates it. No other process may use it at the same time.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Ok(Self {
            database: Database::open(path, &MIGRATIONS)?,
        })
    }

    /// The accounts after `after`, in the order of ids, for the export.
    pub async fn accounts(
        &self,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Account>, StoreError> {
        self.database
            .read("export users", move |connection| {
                accounts::all(connection, after.as_ref(), limit)
            })
            .await
            .map(|users| users.into_iter().map(Account::from).collect())
    }
}

#[async_trait]
impl Store for SqliteUserStore {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.database.ping().await
    }
}

#[async_trait]
impl UserStore for SqliteUserStore {
    /// Does nothing: [`Self::open`] has created the tables.
    async fn prepare(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn create_user(&self, user: &User) -> Result<(), SaveUserError> {
        let user = user.clone();
        let created = self.database.write("create user", move |connection| {
            let free = accounts::is_free(connection, &user)?;
            if free {
                accounts::insert(connection, &user)?;
            }
            Ok(free)
        });
        created
            .await?
            .then_some(())
            .ok_or(SaveUserError::EmailTaken)
    }

    async fn find_by_email(&self, key: &EmailKey) -> Result<Option<User>, StoreError> {
        let key = key.clone();
        self.database
            .read("find user by e-mail", move |connection| {
                accounts::find_by_email(connection, &key)
            })
            .await
    }

    async fn find_by_id(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        let id = id.clone();
        self.database
            .read("find user", move |connection| {
                accounts::find(connection, &id)
            })
            .await
    }

    async fn update_user(&self, user: &User) -> Result<bool, SaveUserError> {
        let user = user.clone();
        let updated = self.database.write("update user", move |connection| {
            if !accounts::is_free(connection, &user)? {
                return Ok(None);
            }
            accounts::update(connection, &user).map(Some)
        });
        updated.await?.ok_or(SaveUserError::EmailTaken)
    }

    async fn replace_password(
        &self,
        id: &UserId,
        old: &PasswordHash,
        new: &PasswordHash,
    ) -> Result<(), StoreError> {
        let (id, old, new) = (id.clone(), old.clone(), new.clone());
        self.database
            .write("replace password", move |connection| {
                accounts::replace_password(connection, &id, &old, &new)
            })
            .await
    }

    async fn change_password(
        &self,
        user: &User,
        new: &PasswordHash,
        kept: &SessionId,
    ) -> Result<bool, StoreError> {
        let (user, new, kept) = (user.clone(), new.clone(), kept.clone());
        self.database
            .write("change password", move |connection| {
                accounts::change_password(connection, &user, &new, &kept)
            })
            .await
    }

    async fn delete_user(
        &self,
        user: &User,
        event: &Envelope,
    ) -> Result<Option<Vec<Pending>>, StoreError> {
        let (user, event) = (user.clone(), event.clone());
        self.database
            .write("delete user", move |connection| {
                accounts::delete(connection, &user, event)
            })
            .await
    }

    async fn with_dead_sessions(&self, limit: usize) -> Result<Vec<UserId>, StoreError> {
        self.database
            .read("find dead sessions", move |connection| {
                accounts::with_dead_sessions(connection, limit)
            })
            .await
    }

    async fn end_dead_sessions(&self, id: &UserId, now: Timestamp) -> Result<(), StoreError> {
        let id = id.clone();
        self.database
            .write("end dead sessions", move |connection| {
                sessions::end_dead(connection, &id, now)?;
                accounts::clear_dead_sessions(connection, &id)
            })
            .await
    }

    /// Also removes sessions and counters that expired before `before`.
    async fn purge(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.database
            .write("purge users", move |connection| {
                sessions::purge(connection, before)?;
                attempts::purge(connection, before)?;
                accounts::purge(connection, before)
            })
            .await
    }

    async fn create_session(&self, session: &Session) -> Result<bool, StoreError> {
        let session = session.clone();
        self.database
            .write("create session", move |connection| {
                let current = accounts::find(connection, &session.user_id)?
                    .is_some_and(|user| user.generation == session.generation);
                if current {
                    sessions::insert(connection, &session)?;
                }
                Ok(current)
            })
            .await
    }

    async fn find_session(&self, id: &SessionId) -> Result<Option<Session>, StoreError> {
        let id = id.clone();
        self.database
            .read("find session", move |connection| {
                sessions::find(connection, &id)
            })
            .await
    }

    async fn find_session_by_family(&self, id: &TokenHash) -> Result<Option<Session>, StoreError> {
        let id = *id;
        self.database
            .read("find session", move |connection| {
                sessions::find_by_family(connection, &id)
            })
            .await
    }

    async fn refresh_session(
        &self,
        before: &TokenFamily,
        after: &Session,
    ) -> Result<bool, StoreError> {
        let (before, after) = (before.current, after.clone());
        self.database
            .write("refresh session", move |connection| {
                sessions::refresh(connection, &before, &after)
            })
            .await
    }

    async fn end_session(
        &self,
        id: &SessionId,
        only_if_current: Option<&TokenFamily>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let (id, current) = (id.clone(), only_if_current.map(|family| family.current));
        self.database
            .write("end session", move |connection| {
                sessions::end(connection, &id, current, now)
            })
            .await
    }

    async fn ended_sessions(
        &self,
        after: &SessionKey,
        limit: usize,
    ) -> Result<Vec<Ended>, StoreError> {
        let after = after.clone();
        self.database
            .read("find ended sessions", move |connection| {
                sessions::ended(connection, &after, limit)
            })
            .await
    }

    async fn list_sessions(
        &self,
        user: &User,
        page: &PageRequest<SessionKey>,
        now: Timestamp,
    ) -> Result<Page<Session>, StoreError> {
        let (user, page) = (user.clone(), page.clone());
        self.database
            .read("list sessions", move |connection| {
                sessions::list(connection, &user, &page, now)
            })
            .await
    }

    async fn take_attempt(
        &self,
        key: &CounterKey,
        quota: &Quota,
        now: Timestamp,
    ) -> Result<AttemptDecision, StoreError> {
        let (key, quota) = (*key, *quota);
        self.database
            .write("take attempt", move |connection| {
                attempts::take(connection, &key, &quota, now)
            })
            .await
    }

    async fn return_attempt(
        &self,
        key: &CounterKey,
        quota: &Quota,
        known_until: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let (key, quota) = (*key, *quota);
        self.database
            .write("return attempt", move |connection| {
                attempts::give_back(connection, &key, &quota, known_until)
            })
            .await
    }
}

#[async_trait]
impl Outbox for SqliteUserStore {
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
