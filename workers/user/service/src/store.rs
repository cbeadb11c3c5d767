//! The port to where accounts and sessions are kept. Every adapter passes one conformance suite.

pub mod transfer;

use std::time::Duration;

use async_trait::async_trait;
use contract::event::Envelope;
use contract::id::{SessionId, UserId};
use contract::page::{Page, PageRequest};
use contract::revocation::Ended;
use events::outbox::{Outbox, Pending};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stores::{Store, StoreError};

use crate::domain::{Chain, CounterKey, EmailKey, PasswordHash, Quota, Session, TokenHash, User};

/// How long an ended session is kept: whoever is told of ends must be able to learn of each until
/// the last of its access tokens has expired.
pub const ENDED_SESSIONS_KEPT: Duration = Duration::from_secs(3600);

/// Accounts and sessions. What a call has answered is durable. Whoever keeps accounts is the outbox
/// of their events. An account that was deleted is not found by anything here.
#[async_trait]
pub trait UserStore: Store + Outbox {
    /// Makes what the store needs before its first account. Any number of workers may, any number
    /// of times.
    async fn prepare(&self) -> Result<(), StoreError>;

    /// Keeps a new account. Of several with one [`EmailKey`], exactly one succeeds.
    async fn create_user(&self, user: &User) -> Result<(), SaveUserError>;

    async fn find_by_email(&self, key: &EmailKey) -> Result<Option<User>, StoreError>;

    async fn find_by_id(&self, id: &UserId) -> Result<Option<User>, StoreError>;

    /// Keeps address, name and version of `user` over the version before. False where that is not
    /// the one that is there.
    async fn update_user(&self, user: &User) -> Result<bool, SaveUserError>;

    /// Keeps a new hash of the same password, unless the password has changed since it was read.
    async fn replace_password(
        &self,
        id: &UserId,
        old: &PasswordHash,
        new: &PasswordHash,
    ) -> Result<(), StoreError>;

    /// Keeps another password and counts the generation, in one write: from then on every session
    /// but `kept` is dead. False where `user` is not of the generation that is there.
    async fn change_password(
        &self,
        user: &User,
        new: &PasswordHash,
        kept: &SessionId,
    ) -> Result<bool, StoreError>;

    /// Deletes the account and keeps the event of it, in one write. The address is free again. Gives
    /// what waits to be published; `None` where `user` is not of the version that is there.
    async fn delete_user(
        &self,
        user: &User,
        event: &Envelope,
    ) -> Result<Option<Vec<Pending>>, StoreError>;

    /// Accounts whose dead sessions may not all be marked as ended.
    async fn with_dead_sessions(&self, limit: usize) -> Result<Vec<UserId>, StoreError>;

    /// Marks every session as ended that is dead since the password changed or the account was
    /// deleted. Nothing but the marks depends on it. Safe to repeat.
    async fn end_dead_sessions(&self, id: &UserId, now: Timestamp) -> Result<(), StoreError>;

    /// Removes for good what was deleted before `before` and has nothing left to be done.
    async fn purge(&self, before: Timestamp) -> Result<u64, StoreError>;

    /// Keeps a new session until it expires. False, and nothing is kept, where the account was
    /// deleted or its password changed since `session` was made; so whoever ends an account's
    /// sessions after such a change meets every session that this has answered true for.
    async fn create_session(&self, session: &Session) -> Result<bool, StoreError>;

    /// The session, unless it was ended.
    async fn find_session(&self, id: &SessionId) -> Result<Option<Session>, StoreError>;

    /// The same by any of its refresh tokens.
    async fn find_session_by_family(
        &self,
        family: &TokenHash,
    ) -> Result<Option<Session>, StoreError>;

    /// Keeps a session after its refresh, where it has not ended and its chain's current token still
    /// is that of `before`. Says whether that was so.
    async fn refresh_session(&self, before: &Chain, after: &Session) -> Result<bool, StoreError>;

    /// Marks a session as ended and keeps it for [`ENDED_SESSIONS_KEPT`]. False where it had ended,
    /// or its chain's current token is not that of `only_while`.
    async fn end_session(
        &self,
        id: &SessionId,
        only_while: Option<&Chain>,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Sessions that have ended behind a time and, of that very time, behind a session; in that order.
    async fn ended_sessions(
        &self,
        after: &SessionKey,
        limit: usize,
    ) -> Result<Vec<Ended>, StoreError>;

    /// A user's sessions that are alive, the newest first.
    async fn list_sessions(
        &self,
        user: &User,
        page: &PageRequest<SessionKey>,
        now: Timestamp,
    ) -> Result<Page<Session>, StoreError>;

    /// Takes one attempt from a counter, atomically.
    async fn take_attempt(
        &self,
        key: &CounterKey,
        quota: &Quota,
        now: Timestamp,
    ) -> Result<Taken, StoreError>;

    /// Gives an attempt back. `known_until` is the time until which attempts under this key are
    /// those of somebody who has proved to know the password.
    async fn return_attempt(
        &self,
        key: &CounterKey,
        quota: &Quota,
        known_until: Option<Timestamp>,
    ) -> Result<(), StoreError>;
}

/// The place of a session in a list: creation time, or that of its end, in milliseconds, and id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionKey(pub i64, pub String);

impl SessionKey {
    pub fn of(session: &Session) -> Self {
        let id = session.id.as_str().to_owned();
        Self(session.created_at.as_millisecond(), id)
    }
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Or how long to wait.
    pub admitted: Result<(), Duration>,
    /// See [`UserStore::return_attempt`].
    pub known: bool,
}

/// Why an account was not kept.
#[derive(Debug, thiserror::Error)]
pub enum SaveUserError {
    #[error("an account with this e-mail address exists")]
    EmailTaken,
    #[error(transparent)]
    Store(#[from] StoreError),
}
