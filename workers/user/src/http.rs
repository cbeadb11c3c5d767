//! The worker's HTTP surface: the route table, and handlers that parse, decide, store and render.

mod account;
mod login;

use std::sync::Arc;

use http::{HeaderValue, Method, header};
use jiff::Timestamp;
use serde::Serialize;
use shared::http::{Anybody, Reply, Request, Routes};
use shared::id::UserId;
use shared::problem::{Kind, Problem};

use crate::App;
use crate::domain::User;

/// Everything that can be asked of this worker, and by whom.
pub(crate) fn routes() -> Routes<App> {
    Routes::new()
        .public(Method::POST, "/api/users/register", account::register)
        .public(Method::POST, "/api/users/login", login::login)
        .caller(Method::GET, "/api/users/me", account::me)
        .anybody(Method::GET, "/.well-known/jwks.json", jwks)
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
    #[serde(with = "shared::time::millis")]
    created_at: Timestamp,
    #[serde(with = "shared::time::millis")]
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
