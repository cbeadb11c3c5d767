//! Checking passwords within the limits of attempts, and changing a password.

use std::sync::Arc;
use std::time::Duration;

use contract::identity::Caller;
use contract::problem::{FieldError, Kind, Problem};
use http::StatusCode;
use web::json::text;
use web::{Reply, Request};

use super::dead_sessions::end_dead_sessions;
use super::live_session::LiveSession;
use super::replies::too_many_attempts;
use crate::app::App;
use crate::domain::{CounterKey, Password, PasswordHash, Quota, User};
use crate::passwords::Verification;

/// How long a client address stays exempt from [`Quota::ACCOUNT`] after the right password came
/// from it.
const KNOWN_ADDRESS_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// `PUT /api/users/me/password`
pub(super) async fn change(
    app: Arc<App>,
    request: Request<Caller>,
    live: LiveSession,
) -> Result<Reply, Problem> {
    let LiveSession { user, session } = live;
    let (_, mut body) = request.object().await?;
    let current = body.required("current_password", text);
    let new = body.required("new_password", |value| Password::choose(&text(value)?));
    let (current, new) = body.finish(|| Some((current?, new?)))?;
    check_own_password(&app, &user, &current, "current_password").await?;

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

/// Checks the password that a logged-in caller sent for their own account. A wrong password is 422
/// and names `member`: the access token is valid, so 401 would make the client refresh it, while
/// the client has to correct its input.
///
/// Attempts are counted by account and apart from logins. A change of the e-mail address gives no
/// new attempts, and an attack on the login does not keep the owner from changing the password.
pub(super) async fn check_own_password(
    app: &App,
    user: &User,
    attempt: &str,
    member: &str,
) -> Result<(), Problem> {
    let (store, counter) = (&app.store, CounterKey::of_owner(&user.id));
    let decision = store.take_attempt(&counter, &Quota::OWNER, app.clock.now());
    decision.await?.admitted.map_err(too_many_attempts)?;
    let hash = Some(user.password.clone());
    let verification = app.passwords.verify(Password::attempt(attempt), hash).await;
    if !matches!(verification, Ok(Verification::Wrong)) {
        store.return_attempt(&counter, &Quota::OWNER, None).await?;
    }
    match verification? {
        Verification::Correct { .. } => Ok(()),
        Verification::Wrong => Err(Problem::validation(vec![FieldError {
            pointer: format!("/{member}"),
            detail: "is not the password of this account".to_owned(),
        }])),
    }
}

/// Checks an attempt at an account's password, or answers 429. `account` is the key of the e-mail
/// address, or the text as sent if it is not an address; `hash` is the account's password hash, if
/// there is such an account.
///
/// Every attempt is counted before the check and returned unless the password was wrong. Parallel
/// attempts are therefore limited like consecutive ones. There are two counters: [`Quota::ADDRESS`]
/// for each client address, and [`Quota::ACCOUNT`] for all addresses together from which nobody has
/// sent the right password lately. An attacker with many addresses can exhaust the second counter,
/// but it does not apply to people who have logged in from their address.
///
/// Invariant: whether the account exists changes neither the work nor the answers.
pub(super) async fn check_password(
    app: &App,
    account: &str,
    address: &str,
    attempt: &str,
    hash: Option<PasswordHash>,
) -> Result<Verification, Problem> {
    let (store, now) = (&app.store, app.clock.now());
    let (here, anywhere) = (
        CounterKey::of_address(account, address),
        CounterKey::of_account(account),
    );
    let decision = store.take_attempt(&here, &Quota::ADDRESS, now).await?;
    decision.admitted.map_err(too_many_attempts)?;
    if !decision.known {
        let decision = store.take_attempt(&anywhere, &Quota::ACCOUNT, now).await?;
        if let Err(wait) = decision.admitted {
            store.return_attempt(&here, &Quota::ADDRESS, None).await?;
            return Err(too_many_attempts(wait));
        }
    }

    let verification = app.passwords.verify(Password::attempt(attempt), hash).await;
    let known_until = match &verification {
        Ok(Verification::Wrong) => return Ok(Verification::Wrong),
        Ok(Verification::Correct { .. }) => Some(now + KNOWN_ADDRESS_LIFETIME),
        // The password was not checked.
        Err(_) => None,
    };
    store
        .return_attempt(&here, &Quota::ADDRESS, known_until)
        .await?;
    if !decision.known {
        store
            .return_attempt(&anywhere, &Quota::ACCOUNT, None)
            .await?;
    }
    Ok(verification?)
}
