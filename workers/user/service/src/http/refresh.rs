//! Exchanges a refresh token for a new pair of tokens, and ends a session whose old token is
//! replayed.

use std::sync::Arc;
use std::time::Duration;

use contract::problem::Problem;
use http::header;
use web::json::text;
use web::{Public, Reply, Request};

use super::login::tokens;
use super::replies::{MAX_WRITE_TRIES, invalid_token};
use crate::app::App;
use crate::domain::{Presented, RefreshToken};

/// `POST /api/users/refresh`
pub(super) async fn refresh(app: Arc<App>, request: Request<Public>) -> Result<Reply, Problem> {
    let device = request.header(&header::USER_AGENT).unwrap_or("").to_owned();
    let address = request.client_address().to_owned();
    let (_, mut body) = request.object().await?;
    let token = body.required("refresh_token", text);
    let token = body.finish(|| token)?;

    let invalid = || invalid_token("This refresh token is not good any more. Log in again.");
    let presented = RefreshToken::parse(&token).ok_or_else(invalid)?;
    let family_id = presented.family_id();
    for _ in 0..MAX_WRITE_TRIES {
        let session = app.store.find_session_by_family(&family_id).await?;
        let session = session.ok_or_else(invalid)?;
        let user = app.store.find_by_id(&session.user_id).await?;
        // Read the clock after the slow reads, because the grace begins at this time.
        let now = app.clock.now();
        let user = user.filter(|user| session.is_alive(user, now));
        let user = user.ok_or_else(invalid)?;
        // Invariant: the decision is valid only while the current token is the one that was read.
        // If the write finds another one, or none, decide again.
        match session.family.check(&presented, now) {
            Presented::Current { next, token } => {
                let refreshed = session.refreshed(next, &device, &address, now);
                if app
                    .store
                    .refresh_session(&session.family, &refreshed)
                    .await?
                {
                    return tokens(&app, &user, &session.id, &token);
                }
            }
            Presented::Recent(token) => return tokens(&app, &user, &session.id, &token),
            Presented::Replayed => {
                let (id, family) = (&session.id, Some(&session.family));
                if app.store.end_session(id, family, now).await? {
                    tracing::warn!(
                        user.id = %user.id,
                        session.id = %id,
                        "an old refresh token was replayed; ended session `{id}`",
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
