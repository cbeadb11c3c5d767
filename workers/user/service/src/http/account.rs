//! Reading, changing and deleting an account, and the profile that others see.

use std::sync::Arc;

use contract::id::UserId;
use contract::identity::Caller;
use contract::problem::{Kind, Problem};
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use web::json::text;
use web::{Object, Patch, Reply, Request};

use super::dead_sessions::end_dead_sessions;
use super::live_session::LiveSession;
use super::password::check_own_password;
use super::replies::{MAX_WRITE_TRIES, UserView, contention, invalid_token};
use crate::app::App;
use crate::domain::{Change, Email, Name, User};
use crate::store::SaveUserError;

/// `GET /api/users/me`
pub(super) async fn me(
    _: Arc<App>,
    _: Request<Caller>,
    live: LiveSession,
) -> Result<Reply, Problem> {
    Ok(rendered(&live.user))
}

/// `PATCH /api/users/me`: a merge patch (RFC 7396).
pub(super) async fn patch(
    app: Arc<App>,
    request: Request<Caller>,
    live: LiveSession,
) -> Result<Reply, Problem> {
    let if_match = request.if_match();
    let (_, mut body) = request.object().await?;
    let email = not_null(&mut body, "email", |value| Email::parse(&text(value)?));
    let name = not_null(&mut body, "name", |value| Name::parse(&text(value)?));
    let change = body.finish(|| Some(Change { email, name }))?;

    let mut user = live.user;
    for _ in 0..MAX_WRITE_TRIES {
        if_match.check(user.version)?;
        let Some(changed) = user.change(change.clone(), app.clock.now()) else {
            return Ok(rendered(&user));
        };
        if app.store.update_user(&changed).await? {
            return Ok(rendered(&changed));
        }
        user = reload(&app, &user.id).await?;
    }
    Err(contention())
}

/// `DELETE /api/users/me`
pub(super) async fn delete(
    app: Arc<App>,
    request: Request<Caller>,
    live: LiveSession,
) -> Result<Reply, Problem> {
    let if_match = request.if_match();
    let trace = request.traceparent().map(str::to_owned);
    let (_, mut body) = request.object().await?;
    let password = body.required("password", text);
    let password = body.finish(|| password)?;
    if_match.check(live.user.version)?;
    check_own_password(&app, &live.user, &password, "password").await?;

    let proven = live.user.generation;
    let mut user = live.user;
    for _ in 0..MAX_WRITE_TRIES {
        if_match.check(user.version)?;
        let event = user.deleted(app.clock.now()).traced(trace.as_deref());
        if let Some(pending) = app.store.delete_user(&user, &event).await? {
            app.relay.hint(pending);
            tracing::info!(user.id = %user.id, "`{}` deleted the account", user.id);
            end_dead_sessions(&app, &user.id).await;
            return Ok(Reply::empty(StatusCode::NO_CONTENT));
        }
        user = reload(&app, &user.id).await?;
        // The password changed after it was checked.
        if user.generation != proven {
            break;
        }
    }
    Err(contention())
}

/// `GET /api/users/{id}`: the public part of an account.
pub(super) async fn profile(
    app: Arc<App>,
    request: Request<Caller>,
    _: LiveSession,
) -> Result<Reply, Problem> {
    #[derive(Serialize)]
    struct Profile<'a> {
        id: &'a UserId,
        name: &'a str,
    }
    let missing = || Problem::not_found("user");
    let id = UserId::parse(request.param("id")).ok_or_else(missing)?;
    let user = app.store.find_by_id(&id).await?.ok_or_else(missing)?;
    let profile = Profile {
        id: &user.id,
        name: user.name.as_str(),
    };
    Ok(Reply::ok(&profile).etag(user.version))
}

/// Reads the user after a concurrent change; 401 if that was the deletion, which ends the session
/// too.
async fn reload(app: &App, id: &UserId) -> Result<User, Problem> {
    let user = app.store.find_by_id(id).await?;
    user.ok_or_else(|| invalid_token("This account no longer exists."))
}

fn rendered(user: &User) -> Reply {
    Reply::ok(&UserView::from(user)).etag(user.version)
}

/// Reads a merge patch's member that may be missing but not null.
fn not_null<T>(
    body: &mut Object,
    name: &str,
    read: impl FnOnce(Value) -> Result<T, String>,
) -> Option<T> {
    match body.patch(name, read) {
        Patch::Keep => None,
        Patch::Set(value) => Some(value),
        Patch::Clear => {
            body.refuse(name, "must not be null");
            None
        }
    }
}

impl From<SaveUserError> for Problem {
    fn from(error: SaveUserError) -> Self {
        match error {
            SaveUserError::EmailTaken => Problem::new(
                Kind::Conflict,
                "There is an account with this e-mail address already.",
            ),
            SaveUserError::Store(error) => error.into(),
        }
    }
}
