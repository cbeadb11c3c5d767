//! Refreshing: a new pair of tokens for a refresh token, and the end of a session whose old one is
//! shown again.

use std::sync::Arc;
use std::time::Duration;

use contract::problem::Problem;
use http::header;
use web::json::text;
use web::{Public, Reply, Request};

use super::login::tokens;
use super::replies::{ATTEMPTS, invalid_token};
use crate::app::App;
use crate::domain::{RefreshToken, Shown};

/// `POST /api/users/refresh`
pub(super) async fn refresh(app: Arc<App>, request: Request<Public>) -> Result<Reply, Problem> {
    let device = request.header(&header::USER_AGENT).unwrap_or("").to_owned();
    let address = request.client_address().to_owned();
    let (_, mut body) = request.object().await?;
    let token = body.required("refresh_token", text);
    let token = body.finish(|| token)?;

    let invalid = || invalid_token("This refresh token is not good any more. Log in again.");
    let shown = RefreshToken::parse(&token).ok_or_else(invalid)?;
    let family = shown.family();
    for _ in 0..ATTEMPTS {
        let session = app.store.find_session_by_family(&family).await?;
        let session = session.ok_or_else(invalid)?;
        let user = app.store.find_by_id(&session.user_id).await?;
        // After what may have taken long: the grace begins with this time.
        let now = app.clock.now();
        let user = user.filter(|user| session.is_alive(user, now));
        let user = user.ok_or_else(invalid)?;
        // Invariant: what is decided here holds only while the current token is the one that was
        // read. Where the write finds another one, or none, the decision is made again.
        match session.chain.show(&shown, now) {
            Shown::Current { next, token } => {
                let refreshed = session.refreshed(next, &device, &address, now);
                if app
                    .store
                    .refresh_session(&session.chain, &refreshed)
                    .await?
                {
                    return tokens(&app, &user, &session.id, &token);
                }
            }
            Shown::Recent(token) => return tokens(&app, &user, &session.id, &token),
            Shown::Replayed => {
                let (id, chain) = (&session.id, Some(&session.chain));
                if app.store.end_session(id, chain, now).await? {
                    tracing::warn!(
                        user.id = %user.id,
                        session.id = %id,
                        "an old refresh token was shown again: session `{id}` is ended",
                    );
                    return Err(invalid());
                }
            }
        }
    }
    Err(Problem::unavailable(
        "This session is refreshed too often at this moment. Try again in a second.",
        Duration::from_secs(1),
    ))
}
