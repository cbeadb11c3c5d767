//! Login: checks a password, stores a session, and answers with its first tokens.

use std::sync::Arc;

use contract::id::{SessionId, UserId};
use contract::problem::Problem;
use http::{HeaderValue, header};
use serde::Serialize;
use web::json::text;
use web::{Public, Reply, Request};

use super::password::check_password;
use super::replies::{UserView, unauthenticated};
use crate::app::App;
use crate::domain::{Email, RefreshToken, Session, User};
use crate::passwords::Verification;
use crate::tokens;

#[derive(Serialize)]
struct TokensView<'a> {
    access_token: String,
    token_type: &'static str,
    /// Seconds.
    expires_in: u64,
    refresh_token: String,
    user: UserView<'a>,
}

/// `POST /api/users/login`
pub(super) async fn login(app: Arc<App>, request: Request<Public>) -> Result<Reply, Problem> {
    let device = request.header(&header::USER_AGENT).unwrap_or("").to_owned();
    let address = request.client_address().to_owned();
    let (_, mut body) = request.object().await?;
    let email = body.required("email", text);
    let password = body.required("password", text);
    let (email, password) = body.finish(|| Some((email?, password?)))?;

    // Invariant: an unknown address and a wrong password cost the same work and get the same
    // answer, so that nobody learns who has an account. A text that is not an address has no
    // account.
    let key = Email::parse(&email).map(|email| email.key());
    let user = match &key {
        Ok(key) => app.store.find_by_email(key).await?,
        Err(_) => None,
    };
    let account = key.as_ref().map_or(email.as_str(), |key| key.as_str());
    let hash = user.as_ref().map(|user| user.password.clone());
    let verification = check_password(&app, account, &address, &password, hash).await?;
    let wrong = || unauthenticated("The e-mail address or the password is wrong.");
    let (Some(user), Verification::Correct { rehashed }) = (user, verification) else {
        return Err(wrong());
    };
    if let Some(rehashed) = rehashed {
        app.store
            .replace_password(&user.id, &user.password, &rehashed)
            .await?;
    }

    let started = Session::start(&user, &device, &address, app.clock.now());
    let (session, refresh) = started.ok_or_else(|| failed(&user.id, "no random bytes"))?;
    if !app.store.create_session(&session).await? {
        return Err(wrong());
    }
    tracing::info!(user.id = %user.id, session.id = %session.id, "`{}` logged in", user.id);
    tokens(&app, &user, &session.id, &refresh)
}

/// The reply with a session's access and refresh token.
pub(super) fn tokens(
    app: &App,
    user: &User,
    session: &SessionId,
    refresh: &RefreshToken,
) -> Result<Reply, Problem> {
    let access_token = app
        .tokens
        .issue(&user.id, session, app.clock.now())
        .map_err(|error| failed(&user.id, &format!("{error:#}")))?;
    let view = TokensView {
        access_token,
        token_type: "Bearer",
        expires_in: tokens::LIFETIME.as_secs(),
        refresh_token: refresh.expose(),
        user: UserView::from(user),
    };
    // RFC 6749 §5.1
    let reply =
        Reply::ok(&view).header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(reply)
}

fn failed(user: &UserId, error: &str) -> Problem {
    tracing::error!(user.id = %user, error, "could not issue tokens for `{user}`");
    Problem::internal()
}
