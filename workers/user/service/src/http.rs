//! The worker's HTTP interface: the routes, and handlers that parse, decide, store and render.
//! Handlers must never publish. `run` serves the routes.

mod live_session;

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

use self::live_session::live;
use crate::app::App;

/// All routes, each with who may call it.
pub(crate) fn routes() -> Routes<App> {
    Routes::new()
        .public(Method::POST, "/api/users/register", register::register)
        .public(Method::POST, "/api/users/login", login::login)
        .public(Method::POST, "/api/users/refresh", refresh::refresh)
        .caller(Method::POST, "/api/users/logout", live(sessions::logout))
        .caller(Method::GET, "/api/users/me", live(account::me))
        .caller(Method::PATCH, "/api/users/me", live(account::patch))
        .caller(Method::DELETE, "/api/users/me", live(account::delete))
        .caller(
            Method::PUT,
            "/api/users/me/password",
            live(password::change),
        )
        .caller(Method::GET, "/api/users/me/sessions", live(sessions::list))
        .caller(
            Method::DELETE,
            "/api/users/me/sessions/{id}",
            live(sessions::end),
        )
        .caller(Method::GET, "/api/users/{id}", live(account::profile))
        .anybody(Method::GET, "/.well-known/jwks.json", jwks)
        // Gateways call this themselves and never forward to it.
        .public(Method::GET, revocation::PATH, revocations::list)
}

/// The public keys, for gateways and everybody else who verifies our tokens.
async fn jwks(app: Arc<App>, _: Request<Anybody>) -> Result<Reply, Problem> {
    let keys = Reply::ok(&app.tokens.jwks());
    Ok(keys.header(
        header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=60"),
    ))
}
