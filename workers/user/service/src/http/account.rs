//! Accounts: what the owner reads, changes and deletes, and what others see.

use std::sync::Arc;

use contract::id::UserId;
use contract::identity::Caller;
use contract::problem::{Kind, Problem};
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use web::json::text;
use web::{Object, Patch, Reply, Request};

use super::alive::Alive;
use super::dead_sessions::end_dead_sessions;
use super::password::prove_own;
use super::replies::{ATTEMPTS, UserView, contended, invalid_token};
use crate::app::App;
use crate::domain::{Change, Email, Name, User};
use crate::store::SaveUserError;

/// `GET /api/users/me`
pub(super) async fn me(_: Arc<App>, _: Request<Caller>, alive: Alive) -> Result<Reply, Problem> {
    Ok(rendered(&alive.user))
}

/// `PATCH /api/users/me`: a merge patch (RFC 7396).
pub(super) async fn patch(
    app: Arc<App>,
    request: Request<Caller>,
    alive: Alive,
) -> Result<Reply, Problem> {
    let if_match = request.if_match();
    let (_, mut body) = request.object().await?;
    let email = lasting(&mut body, "email", |value| Email::parse(&text(value)?));
    let name = lasting(&mut body, "name", |value| Name::parse(&text(value)?));
    let change = body.finish(|| Some(Change { email, name }))?;

    let mut user = alive.user;
    for _ in 0..ATTEMPTS {
        if_match.check(user.version)?;
        let Some(changed) = user.change(change.clone(), app.clock.now()) else {
            return Ok(rendered(&user));
        };
        if app.store.update_user(&changed).await? {
            return Ok(rendered(&changed));
        }
        user = read_again(&app, &user.id).await?;
    }
    Err(contended())
}

/// `DELETE /api/users/me`
pub(super) async fn delete(
    app: Arc<App>,
    request: Request<Caller>,
    alive: Alive,
) -> Result<Reply, Problem> {
    let if_match = request.if_match();
    let trace = request.traceparent().map(str::to_owned);
    let (_, mut body) = request.object().await?;
    let password = body.required("password", text);
    let password = body.finish(|| password)?;
    if_match.check(alive.user.version)?;
    prove_own(&app, &alive.user, &password, "password").await?;

    let proven = alive.user.generation;
    let mut user = alive.user;
    for _ in 0..ATTEMPTS {
        if_match.check(user.version)?;
        let event = user.deleted(app.clock.now()).traced(trace.as_deref());
        if let Some(pending) = app.store.delete_user(&user, &event).await? {
            app.relay.hint(pending);
            tracing::info!(user.id = %user.id, "`{}` deleted the account", user.id);
            end_dead_sessions(&app, &user.id).await;
            return Ok(Reply::empty(StatusCode::NO_CONTENT));
        }
        user = read_again(&app, &user.id).await?;
        // What was shown is the password of another time.
        if user.generation != proven {
            break;
        }
    }
    Err(contended())
}

/// `GET /api/users/{id}`: what everybody may know of somebody.
pub(super) async fn profile(
    app: Arc<App>,
    request: Request<Caller>,
    _: Alive,
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

/// The user after somebody else's change. Deleted meanwhile, its sessions have ended with it.
async fn read_again(app: &App, id: &UserId) -> Result<User, Problem> {
    let user = app.store.find_by_id(id).await?;
    user.ok_or_else(|| invalid_token("This account no longer exists."))
}

fn rendered(user: &User) -> Reply {
    Reply::ok(&UserView::from(user)).etag(user.version)
}

/// A member of a merge patch that an account cannot be without.
fn lasting<T>(
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
