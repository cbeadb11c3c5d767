//! Answers that several handlers share.

use std::time::Duration;

use contract::id::UserId;
use contract::problem::{Kind, Problem};
use http::{HeaderValue, header};
use jiff::Timestamp;
use serde::Serialize;

use crate::domain::User;

/// How often a write is tried when other writes keep coming first.
pub(super) const MAX_WRITE_TRIES: usize = 32;

/// An account as its owner sees it.
#[derive(Serialize)]
pub(super) struct UserView<'a> {
    id: &'a UserId,
    email: &'a str,
    name: &'a str,
    #[serde(with = "contract::time::millis")]
    created_at: Timestamp,
    #[serde(with = "contract::time::millis")]
    updated_at: Timestamp,
}

impl<'a> From<&'a User> for UserView<'a> {
    fn from(user: &'a User) -> Self {
        Self {
            id: &user.id,
            email: user.email.as_str(),
            name: user.name.as_str(),
            created_at: user.created_at,
            updated_at: user.updated_at,
        }
    }
}

/// 401: the client has to log in.
pub(super) fn unauthenticated(detail: &'static str) -> Problem {
    Problem::new(Kind::Unauthenticated, detail)
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

/// 401 for an access or refresh token that is not valid, or not any more.
pub(super) fn invalid_token(detail: &'static str) -> Problem {
    let challenge = r#"Bearer error="invalid_token", error_description="the session has ended""#;
    Problem::new(Kind::Unauthenticated, detail).with_header(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static(challenge),
    )
}

/// 409: the client has to read the account again.
pub(super) fn contention() -> Problem {
    let detail = "Somebody changes this account at the same time. Read it again, then try again.";
    Problem::new(Kind::Conflict, detail)
}

/// 429 for too many wrong passwords. The next attempt after `wait` is admitted, unless somebody
/// else's comes first.
pub(super) fn too_many_attempts(wait: Duration) -> Problem {
    rate_limited("There were too many attempts with a wrong password.", wait)
}

pub(super) fn too_many_registrations(wait: Duration) -> Problem {
    rate_limited("Too many accounts were registered from this address.", wait)
}

fn rate_limited(what: &str, wait: Duration) -> Problem {
    let seconds = wait.as_millis().div_ceil(1000).max(1) as u64;
    let detail = format!("{what} Try again in {seconds} seconds.");
    Problem::new(Kind::RateLimited, detail)
        .with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
}
