//! Registration.
//!
//! With an `Idempotency-Key` a client that did not hear the answer may ask again for a day. Keys are
//! kept per address, in the account that they made. The password is compared by its hash, so the same
//! limits hold here as for logins: otherwise this would be another way to try passwords.

use std::sync::Arc;

use contract::problem::Problem;
use web::json::text;
use web::{Public, Reply, Request};

use super::password::prove;
use super::replies::{UserView, too_many_registrations};
use crate::app::App;
use crate::domain::{CounterKey, Email, Name, Password, Quota, Registration, User};
use crate::passwords::Verdict;
use crate::store::SaveUserError;

/// What somebody wants to be registered with.
struct Wanted {
    email: Email,
    password: Password,
    name: Name,
    registration: Option<Registration>,
    address: String,
}

/// An account, and whether it had been made before.
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
    let wanted = Wanted {
        registration: key.map(|key| Registration::new(key, &email, &name)),
        email,
        password,
        name,
        address,
    };
    let (user, before) = match idempotency {
        None => wanted.register(&app).await?,
        // A hundred at once cost one hash, not a hundred.
        Some(once) => {
            let flight = (wanted.email.key(), once.key, once.body);
            let registered = app
                .registrations
                .join(flight, async || wanted.register(&app).await);
            registered.await?
        }
    };
    let location = format!("/api/users/{}", user.id);
    let reply = Reply::created(&location, &UserView::from(&user)).etag(user.version);
    Ok(match before {
        true => reply.replayed(),
        false => reply,
    })
}

impl Wanted {
    async fn register(&self, app: &App) -> Result<Registered, Problem> {
        // Before the hash, which is most of the work. That there is an account is what 409 says.
        if let Some(user) = app.store.find_by_email(&self.email.key()).await? {
            return self.registered_before(app, user).await;
        }
        let counter = CounterKey::of_registrations(&self.address);
        let taken = app
            .store
            .take_attempt(&counter, &Quota::REGISTRATION, app.clock.now());
        taken.await?.admitted.map_err(too_many_registrations)?;
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
                self.registered_before(app, winner).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The account as this very request made it before; 409 where another one did.
    async fn registered_before(&self, app: &App, user: User) -> Result<Registered, Problem> {
        let remembered = app.clock.now() < user.created_at + stores::idempotency::LIFETIME;
        let (asked, kept) = match (&self.registration, &user.registration) {
            (Some(asked), Some(kept)) if remembered && asked.key == kept.key => (asked, kept),
            _ => return Err(SaveUserError::EmailTaken.into()),
        };
        if asked.said != kept.said {
            return Err(web::idempotency::mismatch());
        }
        let (key, hash) = (self.email.key(), Some(user.password.clone()));
        let password = self.password.expose();
        match prove(app, key.as_str(), &self.address, password, hash).await? {
            Verdict::Wrong => Err(web::idempotency::mismatch()),
            Verdict::Right { .. } => {
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
