//! The check before every handler for callers. An access token can outlive its session by up to ten
//! minutes, and this worker knows which sessions have ended.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use contract::identity::Caller;
use contract::problem::Problem;
use web::{Reply, Request};

use super::replies::invalid_token;
use crate::app::App;
use crate::domain::{Session, User};

/// Evidence that the caller's account exists and the session is alive. Only [`live`]
/// makes it.
pub(super) struct LiveSession {
    pub(super) user: User,
    pub(super) session: Session,
}

type Answer = Pin<Box<dyn Future<Output = Result<Reply, Problem>> + Send>>;

/// Wraps a handler that needs a [`LiveSession`].
pub(super) fn live<F, Fut>(
    handler: F,
) -> impl Fn(Arc<App>, Request<Caller>) -> Answer + Send + Sync + 'static
where
    F: Fn(Arc<App>, Request<Caller>, LiveSession) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply, Problem>> + Send + 'static,
{
    move |app, request| {
        Box::pin(async move {
            let live = check(&app, &request.who).await?;
            handler(app, request, live).await
        })
    }
}

async fn check(app: &App, caller: &Caller) -> Result<LiveSession, Problem> {
    let ended = || invalid_token("This session has ended. Log in again.");
    // Tokens from other issuers name no session, and their users have no account here.
    let session = caller.session_id.as_ref().ok_or_else(ended)?;
    let (user, session) = tokio::try_join!(
        app.store.find_by_id(&caller.user_id),
        app.store.find_session(session),
    )?;
    match (user, session) {
        (Some(user), Some(session)) if session.is_alive(&user, app.clock.now()) => {
            Ok(LiveSession { user, session })
        }
        _ => Err(ended()),
    }
}
