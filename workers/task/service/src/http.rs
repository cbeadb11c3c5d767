//! The HTTP API of tasks.
//!
//! A handler parses the request, lets the domain decide, stores the result, hints the relay and
//! renders the answer. It must never publish, and never answer before a change is durable.
//! [`crate::run`] serves [`routes`].

mod files;
mod input;
mod tasks;
mod upload;

use http::Method;
use web::Routes;

use self::tasks::{create, delete, history, list, patch, read, replace};
use crate::app::App;

pub(crate) fn routes() -> Routes<App> {
    Routes::new()
        .caller(Method::POST, "/api/tasks", create)
        .caller(Method::GET, "/api/tasks", list)
        .caller(Method::POST, "/api/tasks/upload", upload::upload)
        .caller(Method::GET, "/api/tasks/{id}", read)
        .caller(Method::PUT, "/api/tasks/{id}", replace)
        .caller(Method::PATCH, "/api/tasks/{id}", patch)
        .caller(Method::DELETE, "/api/tasks/{id}", delete)
        .caller(Method::GET, "/api/tasks/{id}/events", history)
        .caller(
            Method::GET,
            "/api/tasks/{id}/attachments/{aid}",
            files::download,
        )
        .caller(
            Method::DELETE,
            "/api/tasks/{id}/attachments/{aid}",
            files::detach,
        )
}
