//! Accounts and sessions in MongoDB: collections `users`, `user_events`, `sessions`, `attempts`.
//!
//! Every decision is one conditional write of one document, acknowledged by a majority and
//! journaled. When a change of an account kills sessions, the same write records it in the
//! account's document. The sessions are marked afterwards, and again until that succeeds. The
//! worker's process and the import use the store.

mod accounts;
mod attempts;
mod schema;
mod sessions;

use std::time::Duration;

use async_trait::async_trait;
use bson::doc;
use contract::event::Envelope;
use contract::id::{SessionId, UserId};
use contract::page::{Page, PageRequest};
use contract::revocation::Ended;
use events::outbox::{Backlog, Outbox, Pending};
use jiff::Timestamp;
use mongo::MongoSettings;
use mongo::outbox::EmbeddedOutbox;
use mongodb::Database;
use stores::{Store, StoreError};
use tokio::sync::OnceCell;
use users::domain::{
    CounterKey, EmailKey, PasswordHash, Quota, Session, TokenFamily, TokenHash, User,
};
use users::store::{AttemptDecision, SaveUserError, SessionKey, UserStore};

use self::accounts::Users;
use self::attempts::Attempts;
use self::schema::{binary, in_generation};
use self::sessions::Sessions;

/// A [`UserStore`] on MongoDB.
pub struct MongoUserStore {
    database: Database,
    users: Users,
    sessions: Sessions,
    attempts: Attempts,
    outbox: EmbeddedOutbox,
    prepared: OnceCell<()>,
}

impl MongoUserStore {
    /// Makes a store. Does not reach the server before the first call.
    pub async fn connect(settings: &MongoSettings) -> anyhow::Result<Self> {
        let database = mongo::connect(settings).await?;
        Ok(Self {
            users: Users::of(&database),
            sessions: Sessions::of(&database),
            attempts: Attempts::of(&database),
            outbox: EmbeddedOutbox::new(&database, accounts::COLLECTION, accounts::HISTORY),
            prepared: OnceCell::new(),
            database,
        })
    }

    /// The outbox of the store's events.
    pub fn outbox(&self) -> EmbeddedOutbox {
        self.outbox.clone()
    }

    async fn prepare_all(&self) -> Result<(), StoreError> {
        self.users.prepare().await?;
        self.sessions.prepare().await?;
        self.attempts.prepare().await?;
        self.outbox.prepare().await
    }
}

#[async_trait]
impl Store for MongoUserStore {
    fn name(&self) -> &'static str {
        "mongodb"
    }

    async fn ping(&self) -> Result<(), StoreError> {
        if !self.prepared.initialized() {
            return Err(StoreError::unavailable(
                "ready",
                "the indexes are not there yet",
            ));
        }
        mongo::ping(&self.database).await
    }
}

#[async_trait]
impl UserStore for MongoUserStore {
    async fn prepare(&self) -> Result<(), StoreError> {
        let all = || self.prepare_all();
        self.prepared.get_or_try_init(all).await.copied()
    }

    async fn create_user(&self, user: &User) -> Result<(), SaveUserError> {
        // Invariant: no account exists before the unique index that rejects a second one.
        self.prepare().await?;
        self.users.create(user).await
    }

    async fn find_by_email(&self, key: &EmailKey) -> Result<Option<User>, StoreError> {
        self.users
            .find("find user by e-mail", doc! {"email_key": key.as_str()})
            .await
    }

    async fn find_by_id(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        self.users
            .find("find user", doc! {"_id": id.as_str()})
            .await
    }

    async fn update_user(&self, user: &User) -> Result<bool, SaveUserError> {
        self.users.update(user).await
    }

    async fn replace_password(
        &self,
        id: &UserId,
        old: &PasswordHash,
        new: &PasswordHash,
    ) -> Result<(), StoreError> {
        self.users.replace_password(id, old, new).await
    }

    async fn change_password(
        &self,
        user: &User,
        new: &PasswordHash,
        kept: &SessionId,
    ) -> Result<bool, StoreError> {
        self.users.change_password(user, new, kept).await
    }

    async fn delete_user(
        &self,
        user: &User,
        event: &Envelope,
    ) -> Result<Option<Vec<Pending>>, StoreError> {
        self.users.delete(user, event).await
    }

    async fn with_dead_sessions(&self, limit: usize) -> Result<Vec<UserId>, StoreError> {
        self.users.with_dead_sessions(limit).await
    }

    async fn end_dead_sessions(&self, id: &UserId, now: Timestamp) -> Result<(), StoreError> {
        let Some(seen) = self.users.account_state(id).await? else {
            return Ok(());
        };
        self.sessions.end_dead(id, &seen, now).await?;
        self.users.clear_dead_sessions(id, &seen).await
    }

    async fn purge(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.users.purge(before).await
    }

    async fn create_session(&self, session: &Session) -> Result<bool, StoreError> {
        self.sessions.create(session).await?;
        // Insert first, then check the user: a password change after the check finds the session.
        let user = doc! {
            "_id": session.user_id.as_str(),
            "generation": in_generation(session.generation),
        };
        let current = self
            .users
            .find("check user of new session", user)
            .await?
            .is_some();
        if !current {
            self.sessions.remove(&session.id).await?;
        }
        Ok(current)
    }

    async fn find_session(&self, id: &SessionId) -> Result<Option<Session>, StoreError> {
        self.sessions.find(doc! {"_id": id.as_str()}).await
    }

    async fn find_session_by_family(&self, id: &TokenHash) -> Result<Option<Session>, StoreError> {
        let id = binary(id.as_bytes());
        self.sessions.find(doc! {"family_hash": id}).await
    }

    async fn refresh_session(
        &self,
        before: &TokenFamily,
        after: &Session,
    ) -> Result<bool, StoreError> {
        self.sessions.refresh(before, after).await
    }

    async fn end_session(
        &self,
        id: &SessionId,
        only_if_current: Option<&TokenFamily>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.sessions.end(id, only_if_current, now).await
    }

    async fn ended_sessions(
        &self,
        after: &SessionKey,
        limit: usize,
    ) -> Result<Vec<Ended>, StoreError> {
        self.sessions.ended(after, limit).await
    }

    async fn list_sessions(
        &self,
        user: &User,
        page: &PageRequest<SessionKey>,
        now: Timestamp,
    ) -> Result<Page<Session>, StoreError> {
        self.sessions.list(user, page, now).await
    }

    async fn take_attempt(
        &self,
        key: &CounterKey,
        quota: &Quota,
        now: Timestamp,
    ) -> Result<AttemptDecision, StoreError> {
        self.attempts.take(key, quota, now).await
    }

    async fn return_attempt(
        &self,
        key: &CounterKey,
        quota: &Quota,
        known_until: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        self.attempts.give_back(key, quota, known_until).await
    }
}

#[async_trait]
impl Outbox for MongoUserStore {
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
