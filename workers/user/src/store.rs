//! Where accounts and sessions are kept: the port, and its adapters.
//!
//! Every adapter passes [`conformance`]. No driver's type shows here.

pub mod mongo;

#[cfg(any(test, feature = "testing"))]
pub mod conformance;

use async_trait::async_trait;
use shared::id::UserId;
use shared::store::StoreError;

use crate::domain::{EmailKey, PasswordHash, Session, User};

/// Accounts and sessions. What a call has answered is durable.
#[async_trait]
pub trait UserStore: Send + Sync + 'static {
    /// Makes what the store needs before its first account. Any number of workers may, any number
    /// of times.
    async fn prepare(&self) -> Result<(), StoreError>;

    /// Whether it is prepared and answers.
    async fn ready(&self) -> Result<(), StoreError>;

    /// Keeps a new account. Of several with one [`EmailKey`], exactly one succeeds.
    async fn create_user(&self, user: &User) -> Result<(), CreateUserError>;

    async fn find_by_email(&self, key: &EmailKey) -> Result<Option<User>, StoreError>;

    async fn find_by_id(&self, id: &UserId) -> Result<Option<User>, StoreError>;

    /// Keeps a new hash of the same password, unless the password has changed since it was read.
    async fn replace_password(
        &self,
        id: &UserId,
        old: &PasswordHash,
        new: &PasswordHash,
    ) -> Result<(), StoreError>;

    /// Keeps a new session until it expires.
    async fn create_session(&self, session: &Session) -> Result<(), StoreError>;
}

/// Why an account was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateUserError {
    #[error("an account with this e-mail address exists")]
    EmailTaken,
    #[error(transparent)]
    Store(#[from] StoreError),
}
