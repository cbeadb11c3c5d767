//! Passwords: proving to know one, and choosing another.

use std::sync::Arc;
use std::time::Duration;

use contract::identity::Caller;
use contract::problem::{FieldError, Kind, Problem};
use http::StatusCode;
use web::json::text;
use web::{Reply, Request};

use super::alive::Alive;
use super::dead_sessions::end_dead_sessions;
use super::replies::too_many_attempts;
use crate::app::App;
use crate::domain::{CounterKey, Password, PasswordHash, Quota, User};
use crate::passwords::Verdict;

/// How long an address at which somebody knew the password is not held to [`Quota::ACCOUNT`].
const KNOWN_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// `PUT /api/users/me/password`
pub(super) async fn change(
    app: Arc<App>,
    request: Request<Caller>,
    alive: Alive,
) -> Result<Reply, Problem> {
    let Alive { user, session } = alive;
    let (_, mut body) = request.object().await?;
    let current = body.required("current_password", text);
    let new = body.required("new_password", |value| Password::choose(&text(value)?));
    let (current, new) = body.finish(|| Some((current?, new?)))?;
    prove_own(&app, &user, &current, "current_password").await?;

    let hash = app.passwords.hash(new).await?;
    if !app.store.change_password(&user, &hash, &session.id).await? {
        return Err(Problem::new(
            Kind::Conflict,
            "The password was changed by somebody else at the same time; this change is void.",
        ));
    }
    tracing::info!(user.id = %user.id, "`{}` changed the password", user.id);
    end_dead_sessions(&app, &user.id).await;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

/// Lets pass who knows the password of their own account. A wrong one is 422 with its member: the
/// token is good, so 401 would send the client to refresh it, and what it can mend is its input.
///
/// Counted by account and apart from logins: no change of the e-mail address gives new attempts, and
/// no attack on the login keeps the owner from choosing another password.
pub(super) async fn prove_own(
    app: &App,
    user: &User,
    attempt: &str,
    member: &str,
) -> Result<(), Problem> {
    let (store, counter) = (&app.store, CounterKey::of_owner(&user.id));
    let taken = store.take_attempt(&counter, &Quota::OWNER, app.clock.now());
    taken.await?.admitted.map_err(too_many_attempts)?;
    let hash = Some(user.password.clone());
    let verdict = app.passwords.verify(Password::attempt(attempt), hash).await;
    if !matches!(verdict, Ok(Verdict::Wrong)) {
        store.return_attempt(&counter, &Quota::OWNER, None).await?;
    }
    match verdict? {
        Verdict::Right { .. } => Ok(()),
        Verdict::Wrong => Err(Problem::validation(vec![FieldError {
            pointer: format!("/{member}"),
            detail: "is not the password of this account".to_owned(),
        }])),
    }
}

/// Checks a password that somebody shows for an account, or refuses to (429). `account` is what they
/// call it, `hash` that of the account's password where there is one.
///
/// Every attempt is counted before it is checked and given back unless it was wrong, so that of many
/// at once no more are checked than of many in a row. Two counters: [`Quota::ADDRESS`] for each
/// address, and [`Quota::ACCOUNT`] for all together from which nobody has known the password lately.
/// An attacker with many addresses can exhaust the second one, but not for those who have logged in
/// from where they are.
///
/// Invariant: whether there is such an account changes neither the work nor the answers.
pub(super) async fn prove(
    app: &App,
    account: &str,
    address: &str,
    attempt: &str,
    hash: Option<PasswordHash>,
) -> Result<Verdict, Problem> {
    let (store, now) = (&app.store, app.clock.now());
    let (here, anywhere) = (
        CounterKey::of_address(account, address),
        CounterKey::of_account(account),
    );
    let taken = store.take_attempt(&here, &Quota::ADDRESS, now).await?;
    taken.admitted.map_err(too_many_attempts)?;
    if !taken.known {
        let taken = store.take_attempt(&anywhere, &Quota::ACCOUNT, now).await?;
        if let Err(wait) = taken.admitted {
            store.return_attempt(&here, &Quota::ADDRESS, None).await?;
            return Err(too_many_attempts(wait));
        }
    }

    let verdict = app.passwords.verify(Password::attempt(attempt), hash).await;
    let known_until = match &verdict {
        Ok(Verdict::Wrong) => return Ok(Verdict::Wrong),
        Ok(Verdict::Right { .. }) => Some(now + KNOWN_FOR),
        // It was not checked.
        Err(_) => None,
    };
    store
        .return_attempt(&here, &Quota::ADDRESS, known_until)
        .await?;
    if !taken.known {
        store
            .return_attempt(&anywhere, &Quota::ACCOUNT, None)
            .await?;
    }
    Ok(verdict?)
}
