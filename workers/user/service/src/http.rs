//! The worker's HTTP surface: the route table, and handlers that parse, decide, store and render.

mod alive;

mod account;
mod login;
mod password;
mod refresh;
mod register;
mod revocations;
mod sessions;

use std::sync::Arc;
use std::time::Duration;

use contract::id::UserId;
use contract::problem::{Kind, Problem};
use contract::revocation;
use http::{HeaderValue, Method, header};
use jiff::Timestamp;
use serde::Serialize;
use web::{Anybody, Reply, Request, Routes};

use self::alive::alive;
use crate::App;
use crate::domain::User;

/// How often a change that nobody made conditional is tried over others that come first.
const ATTEMPTS: usize = 32;

/// Everything that can be asked of this worker, and by whom.
pub(crate) fn routes() -> Routes<App> {
    Routes::new()
        .public(Method::POST, "/api/users/register", register::register)
        .public(Method::POST, "/api/users/login", login::login)
        .public(Method::POST, "/api/users/refresh", refresh::refresh)
        .caller(Method::POST, "/api/users/logout", alive(sessions::logout))
        .caller(Method::GET, "/api/users/me", alive(account::me))
        .caller(Method::PATCH, "/api/users/me", alive(account::patch))
        .caller(Method::DELETE, "/api/users/me", alive(account::delete))
        .caller(
            Method::PUT,
            "/api/users/me/password",
            alive(password::change),
        )
        .caller(Method::GET, "/api/users/me/sessions", alive(sessions::list))
        .caller(
            Method::DELETE,
            "/api/users/me/sessions/{id}",
            alive(sessions::end),
        )
        .caller(Method::GET, "/api/users/{id}", alive(account::profile))
        .anybody(Method::GET, "/.well-known/jwks.json", jwks)
        // No gateway routes to it: it is for gateways themselves.
        .public(Method::GET, revocation::PATH, revocations::list)
}

/// The public keys, for gateways and for whoever verifies our tokens.
async fn jwks(app: Arc<App>, _: Request<Anybody>) -> Result<Reply, Problem> {
    let keys = Reply::ok(&app.tokens.jwks());
    Ok(keys.header(
        header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=60"),
    ))
}

/// An account as its owner sees it.
#[derive(Serialize)]
struct UserView<'a> {
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

/// 401: the client's next step is to log in.
fn unauthenticated(detail: &'static str) -> Problem {
    Problem::new(Kind::Unauthenticated, detail)
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

/// 401 for a token, access or refresh, that is no longer good or never was.
fn invalid_token(detail: &'static str) -> Problem {
    let challenge = r#"Bearer error="invalid_token", error_description="the session has ended""#;
    Problem::new(Kind::Unauthenticated, detail).with_header(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static(challenge),
    )
}

/// 409: the client's next step is to look again.
fn contended() -> Problem {
    let detail = "Somebody changes this account at the same time. Read it again, then try again.";
    Problem::new(Kind::Conflict, detail)
}

/// 429: there were too many wrong passwords. Whoever is alone in trying and waits so long may try.
fn too_many_attempts(wait: Duration) -> Problem {
    too_many("There were too many attempts with a wrong password.", wait)
}

fn too_many_registrations(wait: Duration) -> Problem {
    too_many("Too many accounts were registered from this address.", wait)
}

fn too_many(what: &str, wait: Duration) -> Problem {
    let seconds = wait.as_millis().div_ceil(1000).max(1) as u64;
    let detail = format!("{what} Try again in {seconds} seconds.");
    Problem::new(Kind::RateLimited, detail)
        .with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
}
