//! Registration.
//!
//! With an `Idempotency-Key`, a client that missed the answer may repeat the request for a day. The
//! key is stored in the account that it made, so keys are separate for each e-mail address. A
//! repeated request has its password checked, so the limits of logins apply: otherwise this would
//! be another way to try passwords.

use std::sync::Arc;

use contract::problem::Problem;
use web::json::text;
use web::{Public, Reply, Request};

use super::password::check_password;
use super::replies::{UserView, too_many_registrations};
use crate::app::App;
use crate::domain::{CounterKey, Email, Name, Password, Quota, Registration, User};
use crate::passwords::Verification;
use crate::store::SaveUserError;

/// A parsed registration.
struct NewAccount {
    email: Email,
    password: Password,
    name: Name,
    registration: Option<Registration>,
    address: String,
}

/// The account, and whether an earlier request made it.
type Registered = (User, bool);

/// `POST /api/users/register`
pub(super) async fn register(app: Arc<App>, request: Request<Public>) -> Result<Reply, Problem> {
    let address = request.client_address().to_owned();
    let (_, mut body, idempotency) = request.idempotent_object().await?;
    let email = body.required("email", |value| Email::parse(&text(value)?));
    let password = body.required("password", |value| Password::choose(&text(value)?));
    let name = body.required("name", |value| Name::parse(&text(value)?));
    let (email, password, name) = body.finish(|| Some((email?, password?, name?)))?;

    let key = idempotency.as_ref().map(|once| once.key.to_hex());
    let account = NewAccount {
        registration: key.map(|key| Registration::new(key, &email, &name)),
        email,
        password,
        name,
        address,
    };
    let (user, replayed) = match idempotency {
        None => account.register(&app).await?,
        // A hundred parallel repetitions cost one hash, not a hundred.
        Some(once) => {
            let key = (account.email.key(), once.key, once.body);
            let registered = app
                .registrations
                .run(key, async || account.register(&app).await);
            registered.await?
        }
    };
    let location = format!("/api/users/{}", user.id);
    let reply = Reply::created(&location, &UserView::from(&user)).etag(user.version);
    Ok(match replayed {
        true => reply.replayed(),
        false => reply,
    })
}

impl NewAccount {
    async fn register(&self, app: &App) -> Result<Registered, Problem> {
        // Look before hashing, which is most of the work. The 409 reveals the account anyway.
        if let Some(user) = app.store.find_by_email(&self.email.key()).await? {
            return self.replay(app, user).await;
        }
        let counter = CounterKey::of_registrations(&self.address);
        let decision = app
            .store
            .take_attempt(&counter, &Quota::REGISTRATION, app.clock.now());
        decision.await?.admitted.map_err(too_many_registrations)?;
        let hash = app.passwords.hash(self.password.clone()).await?;
        let (email, name) = (self.email.clone(), self.name.clone());
        let user = User::new(
            email,
            name,
            hash,
            self.registration.clone(),
            app.clock.now(),
        );
        match app.store.create_user(&user).await {
            Ok(()) => {
                tracing::info!(user.id = %user.id, "registered `{}`", user.id);
                Ok((user, false))
            }
            Err(SaveUserError::EmailTaken) => {
                let winner = app.store.find_by_email(&self.email.key()).await?;
                let winner = winner.ok_or(SaveUserError::EmailTaken)?;
                self.replay(app, winner).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The account as this request made it earlier; 409 if another request did.
    async fn replay(&self, app: &App, user: User) -> Result<Registered, Problem> {
        let remembered = app.clock.now() < user.created_at + stores::idempotency::LIFETIME;
        let (asked, kept) = match (&self.registration, &user.registration) {
            (Some(asked), Some(kept)) if remembered && asked.key == kept.key => (asked, kept),
            _ => return Err(SaveUserError::EmailTaken.into()),
        };
        if asked.fingerprint != kept.fingerprint {
            return Err(web::idempotency::mismatch());
        }
        let (key, hash) = (self.email.key(), Some(user.password.clone()));
        let password = self.password.expose();
        match check_password(app, key.as_str(), &self.address, password, hash).await? {
            Verification::Wrong => Err(web::idempotency::mismatch()),
            Verification::Correct { .. } => {
                let as_it_was = User {
                    email: self.email.clone(),
                    name: self.name.clone(),
                    version: 1,
                    updated_at: user.created_at,
                    ..user
                };
                Ok((as_it_was, true))
            }
        }
    }
}
