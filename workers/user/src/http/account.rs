//! Accounts: registration, and what the owner reads.

use std::sync::Arc;

use shared::http::json::text;
use shared::http::{Public, Reply, Request};
use shared::identity::Caller;
use shared::problem::{Kind, Problem};

use super::{UserView, unauthenticated};
use crate::App;
use crate::domain::{Email, Name, Password, User};
use crate::store::CreateUserError;

/// `POST /api/users/register`
pub(super) async fn register(app: Arc<App>, request: Request<Public>) -> Result<Reply, Problem> {
    let (_, mut body) = request.object().await?;
    let email = body.required("email", |value| Email::parse(&text(value)?));
    let password = body.required("password", |value| Password::choose(&text(value)?));
    let name = body.required("name", |value| Name::parse(&text(value)?));
    let (email, password, name) = body.finish(|| Some((email?, password?, name?)))?;

    let hash = app.passwords.hash(password).await?;
    let user = User::new(email, name, hash, app.clock.now());
    app.store.create_user(&user).await?;
    tracing::info!(user.id = %user.id, "registered `{}`", user.id);
    let location = format!("/api/users/{}", user.id);
    Ok(Reply::created(&location, &UserView::from(&user)).etag(user.version))
}

/// `GET /api/users/me`
pub(super) async fn me(app: Arc<App>, request: Request<Caller>) -> Result<Reply, Problem> {
    let user = app.store.find_by_id(request.user_id()).await?;
    let user = user.ok_or_else(|| unauthenticated("This account no longer exists."))?;
    Ok(Reply::ok(&UserView::from(&user)).etag(user.version))
}

impl From<CreateUserError> for Problem {
    fn from(error: CreateUserError) -> Self {
        match error {
            CreateUserError::EmailTaken => Problem::new(
                Kind::Conflict,
                "There is an account with this e-mail address already.",
            ),
            CreateUserError::Store(error) => error.into(),
        }
    }
}
