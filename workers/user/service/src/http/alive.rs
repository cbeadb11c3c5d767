//! The check that stands before every handler for callers: an access token outlives its session by
//! up to ten minutes, and this worker knows which sessions have ended.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use contract::identity::Caller;
use contract::problem::Problem;
use web::{Reply, Request};

use super::replies::invalid_token;
use crate::app::App;
use crate::domain::{Session, User};

/// Whose request it is: an account that exists, in a session that is alive. Made by [`alive`] only.
pub(super) struct Alive {
    pub(super) user: User,
    pub(super) session: Session,
}

type Answer = Pin<Box<dyn Future<Output = Result<Reply, Problem>> + Send>>;

/// Makes a handler that may assume that its caller is [`Alive`].
pub(super) fn alive<F, Fut>(
    handler: F,
) -> impl Fn(Arc<App>, Request<Caller>) -> Answer + Send + Sync + 'static
where
    F: Fn(Arc<App>, Request<Caller>, Alive) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply, Problem>> + Send + 'static,
{
    move |app, request| {
        Box::pin(async move {
            let alive = check(&app, &request.who).await?;
            handler(app, request, alive).await
        })
    }
}

async fn check(app: &App, caller: &Caller) -> Result<Alive, Problem> {
    let ended = || invalid_token("This session has ended. Log in again.");
    // Tokens of other issuers name no session; they have no account here.
    let session = caller.session_id.as_ref().ok_or_else(ended)?;
    let (user, session) = tokio::try_join!(
        app.store.find_by_id(&caller.user_id),
        app.store.find_session(session),
    )?;
    match (user, session) {
        (Some(user), Some(session)) if session.is_alive(&user, app.clock.now()) => {
            Ok(Alive { user, session })
        }
        _ => Err(ended()),
    }
}
