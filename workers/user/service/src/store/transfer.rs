//! The form in which export and import move accounts between stores. Sessions are not moved:
//! everybody logs in again.

use contract::id::UserId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::{Email, Name, PasswordHash, User};

/// An account with its password hash.
#[derive(Serialize, Deserialize)]
pub struct Account {
    pub id: UserId,
    email: String,
    name: String,
    password: String,
    generation: u64,
    version: u64,
    #[serde(with = "contract::time::millis")]
    created_at: Timestamp,
    #[serde(with = "contract::time::millis")]
    updated_at: Timestamp,
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            email: user.email.as_str().to_owned(),
            name: user.name.as_str().to_owned(),
            password: user.password.as_str().to_owned(),
            generation: user.generation,
            version: user.version,
            created_at: user.created_at,
            updated_at: user.updated_at,
        }
    }
}

impl From<Account> for User {
    fn from(account: Account) -> Self {
        Self {
            id: account.id,
            email: Email::stored(account.email),
            name: Name::stored(account.name),
            password: PasswordHash::new(account.password),
            generation: account.generation,
            kept_session: None,
            registration: None,
            version: account.version,
            created_at: account.created_at,
            updated_at: account.updated_at,
        }
    }
}
