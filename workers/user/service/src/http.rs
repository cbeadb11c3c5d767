//! The worker's HTTP surface: the route table, and handlers that parse, decide, store and render.

mod alive;

mod account;
mod dead_sessions;
mod login;
mod password;
mod refresh;
mod register;
mod replies;
mod revocations;
mod sessions;

use std::sync::Arc;

use contract::problem::Problem;
use contract::revocation;
use http::{HeaderValue, Method, header};
use web::{Anybody, Reply, Request, Routes};

use self::alive::alive;
use crate::app::App;

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
