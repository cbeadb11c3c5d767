//! Logging in: from a password to a durable session and its first tokens.

use std::sync::Arc;

use http::{HeaderValue, header};
use serde::Serialize;
use shared::http::json::text;
use shared::http::{Public, Reply, Request};
use shared::problem::Problem;

use super::{UserView, unauthenticated};
use crate::App;
use crate::domain::{Email, Password, RefreshToken, Session};
use crate::passwords::Verdict;
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

    // Invariant: an unknown address and a wrong password cost the same work and get the same answer,
    // so that nobody learns who has an account. (What is no address cannot have one.)
    let user = match Email::parse(&email) {
        Ok(email) => app.store.find_by_email(&email.key()).await?,
        Err(_) => None,
    };
    let hash = user.as_ref().map(|user| user.password.clone());
    let verdict = app
        .passwords
        .verify(Password::attempt(&password), hash)
        .await?;
    let (Some(user), Verdict::Right { rehashed }) = (user, verdict) else {
        return Err(unauthenticated(
            "The e-mail address or the password is wrong.",
        ));
    };
    if let Some(rehashed) = rehashed {
        app.store
            .replace_password(&user.id, &user.password, &rehashed)
            .await?;
    }

    let now = app.clock.now();
    let refresh = RefreshToken::generate().ok_or_else(|| failed(&user.id, "no random bytes"))?;
    let session = Session::new(user.id.clone(), &refresh, &device, &address, now);
    let access_token = app
        .tokens
        .issue(&user.id, &session.id, now)
        .map_err(|error| failed(&user.id, &format!("{error:#}")))?;
    app.store.create_session(&session).await?;
    tracing::info!(user.id = %user.id, session.id = %session.id, "`{}` logged in", user.id);

    let view = TokensView {
        access_token,
        token_type: "Bearer",
        expires_in: tokens::LIFETIME.as_secs(),
        refresh_token: refresh.expose(),
        user: UserView::from(&user),
    };
    // RFC 6749 §5.1
    let reply =
        Reply::ok(&view).header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(reply)
}

fn failed(user: &shared::id::UserId, error: &str) -> Problem {
    tracing::error!(user.id = %user, error, "no tokens could be made for `{user}`");
    Problem::internal()
}
