//! The port to the store of accounts and sessions. Handlers and the maintenance task call it; every
//! adapter passes the same conformance suite. No driver's type may appear here.

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

use crate::domain::{
    CounterKey, EmailKey, PasswordHash, Quota, Session, TokenFamily, TokenHash, User,
};

/// How long an ended session is kept. Gateways must be able to learn of its end until its last
/// access token has expired.
pub const ENDED_SESSIONS_KEPT: Duration = Duration::from_secs(3600);

/// A store of accounts and sessions, and the outbox of their events. A write is durable when its
/// call returns, except that a crash may lose counters of attempts. No method finds a deleted
/// account, unless it says so.
#[async_trait]
pub trait UserStore: Store + Outbox {
    /// Creates what the store needs before its first account, such as indexes. Safe to repeat, and
    /// for several workers at once.
    async fn prepare(&self) -> Result<(), StoreError>;

    /// Stores a new account. Of several with the same [`EmailKey`], exactly one succeeds.
    async fn create_user(&self, user: &User) -> Result<(), SaveUserError>;

    async fn find_by_email(&self, key: &EmailKey) -> Result<Option<User>, StoreError>;

    async fn find_by_id(&self, id: &UserId) -> Result<Option<User>, StoreError>;

    /// Replaces address, name and version if the stored version is the one before `user`'s. Returns
    /// false otherwise.
    async fn update_user(&self, user: &User) -> Result<bool, SaveUserError>;

    /// Stores a new hash of the same password, unless the stored hash is no longer `old`.
    async fn replace_password(
        &self,
        id: &UserId,
        old: &PasswordHash,
        new: &PasswordHash,
    ) -> Result<(), StoreError>;

    /// Stores a new password and increments the generation, in one write. From then on every
    /// session except `kept` is dead. Returns false if `user` is not of the stored generation.
    async fn change_password(
        &self,
        user: &User,
        new: &PasswordHash,
        kept: &SessionId,
    ) -> Result<bool, StoreError>;

    /// Deletes the account and stores its event, in one write. The address becomes free. Returns the
    /// events to publish, or `None` if `user` is not of the stored version and
    /// generation.
    async fn delete_user(
        &self,
        user: &User,
        event: &Envelope,
    ) -> Result<Option<Vec<Pending>>, StoreError>;

    /// Accounts, deleted ones included, that may have dead sessions that are not marked as ended.
    async fn with_dead_sessions(&self, limit: usize) -> Result<Vec<UserId>, StoreError>;

    /// Marks every session as ended that a password change or the account's deletion has killed.
    /// The sessions are dead without the marks, too. Safe to repeat.
    async fn end_dead_sessions(&self, id: &UserId, now: Timestamp) -> Result<(), StoreError>;

    /// Removes the tombstones of accounts that were deleted before `before`, if their events are
    /// published and their sessions marked. Returns their number.
    async fn purge(&self, before: Timestamp) -> Result<u64, StoreError>;

    /// Stores a new session until it expires. Returns false and stores nothing if the account was
    /// deleted or its password changed after `session` was made. So
    /// [`UserStore::end_dead_sessions`] after such a change finds every session that this call has
    /// confirmed.
    async fn create_session(&self, session: &Session) -> Result<bool, StoreError>;

    /// The session, unless it was marked as ended.
    async fn find_session(&self, id: &SessionId) -> Result<Option<Session>, StoreError>;

    /// The same, by [`TokenFamily::id`].
    async fn find_session_by_family(&self, id: &TokenHash) -> Result<Option<Session>, StoreError>;

    /// Stores a session after its refresh, if it has not ended and its current refresh token is
    /// still that of `before`. Returns whether it did.
    async fn refresh_session(
        &self,
        before: &TokenFamily,
        after: &Session,
    ) -> Result<bool, StoreError>;

    /// Marks a session as ended and keeps it for [`ENDED_SESSIONS_KEPT`]. Returns false if it had
    /// ended already, or if its current refresh token is not that of `only_if_current`.
    async fn end_session(
        &self,
        id: &SessionId,
        only_if_current: Option<&TokenFamily>,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// The sessions that have ended after `after`, in the order of time and id.
    async fn ended_sessions(
        &self,
        after: &SessionKey,
        limit: usize,
    ) -> Result<Vec<Ended>, StoreError>;

    /// A user's sessions that are alive, newest first.
    async fn list_sessions(
        &self,
        user: &User,
        page: &PageRequest<SessionKey>,
        now: Timestamp,
    ) -> Result<Page<Session>, StoreError>;

    /// Counts an attempt if [`Quota::take`] admits it, atomically.
    async fn take_attempt(
        &self,
        key: &CounterKey,
        quota: &Quota,
        now: Timestamp,
    ) -> Result<AttemptDecision, StoreError>;

    /// Takes an admitted attempt off its counter. Until `known_until`, attempts under this key
    /// count as those of somebody who knows the password.
    async fn return_attempt(
        &self,
        key: &CounterKey,
        quota: &Quota,
        known_until: Option<Timestamp>,
    ) -> Result<(), StoreError>;
}

/// A session's position in a list: the time of its creation or of its end, in milliseconds since
/// 1970, and its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionKey(pub i64, pub String);

impl SessionKey {
    pub fn of(session: &Session) -> Self {
        let id = session.id.as_str().to_owned();
        Self(session.created_at.as_millisecond(), id)
    }
}

/// The decision on an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptDecision {
    /// The error is how long to wait.
    pub admitted: Result<(), Duration>,
    /// Whether the `known_until` of [`UserStore::return_attempt`] lies ahead.
    pub known: bool,
}

/// Why an account was not stored.
#[derive(Debug, thiserror::Error)]
pub enum SaveUserError {
    #[error("an account with this e-mail address exists")]
    EmailTaken,
    #[error(transparent)]
    Store(#[from] StoreError),
}
