//! Listing and ending the caller's own sessions.

use std::sync::Arc;

use contract::id::SessionId;
use contract::identity::Caller;
use contract::problem::Problem;
use http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use web::{Reply, Request};

use super::live_session::LiveSession;
use crate::app::App;

#[derive(Serialize)]
struct SessionView {
    id: SessionId,
    device: String,
    address: String,
    #[serde(with = "contract::time::millis")]
    created_at: Timestamp,
    #[serde(with = "contract::time::millis")]
    last_used_at: Timestamp,
    /// Whether this request came in it.
    current: bool,
}

/// `POST /api/users/logout`
pub(super) async fn logout(
    app: Arc<App>,
    request: Request<Caller>,
    live: LiveSession,
) -> Result<Reply, Problem> {
    request.without_members().await?;
    let id = &live.session.id;
    app.store.end_session(id, None, app.clock.now()).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

/// `GET /api/users/me/sessions`
pub(super) async fn list(
    app: Arc<App>,
    request: Request<Caller>,
    live: LiveSession,
) -> Result<Reply, Problem> {
    let mut query = request.query();
    let page = query.page();
    query.finish()?;
    let sessions = app.store.list_sessions(&live.user, &page, app.clock.now());
    let sessions = sessions.await?.map(|session| SessionView {
        current: session.id == live.session.id,
        id: session.id,
        device: session.device,
        address: session.address,
        created_at: session.created_at,
        last_used_at: session.last_used_at,
    });
    Ok(Reply::ok(&sessions))
}

/// `DELETE /api/users/me/sessions/{id}`
pub(super) async fn end(
    app: Arc<App>,
    request: Request<Caller>,
    live: LiveSession,
) -> Result<Reply, Problem> {
    let missing = || Problem::not_found("session");
    let id = SessionId::parse(request.param("id")).ok_or_else(missing)?;
    let session = app.store.find_session(&id).await?.ok_or_else(missing)?;
    let now = app.clock.now();
    if !session.is_alive(&live.user, now) || !app.store.end_session(&id, None, now).await? {
        return Err(missing());
    }
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}
