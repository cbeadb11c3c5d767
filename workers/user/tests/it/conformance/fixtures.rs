//! Accounts and sessions that the facts of the suite start from.

use std::sync::Arc;
use std::time::Duration;

use contract::id::SessionId;
use jiff::Timestamp;
use users::domain::{Email, Name, PasswordHash, Registration, Session, User};
use users::store::UserStore;

pub(super) fn now() -> Timestamp {
    contract::time::whole_millis(Timestamp::now())
}

pub(super) fn user(email: &str) -> User {
    let (email, name) = (Email::parse(email).unwrap(), Name::parse("Ada").unwrap());
    let registration = Registration::new("key".to_owned(), &email, &name);
    User::new(
        email,
        name,
        PasswordHash::new("$first"),
        Some(registration),
        now(),
    )
}

/// Creates an account in the store.
pub(super) async fn ada(store: &Arc<dyn UserStore>) -> User {
    let ada = user("ada@example.org");
    store.create_user(&ada).await.unwrap();
    ada
}

pub(super) async fn find(store: &Arc<dyn UserStore>, user: &User) -> User {
    store.find_by_id(&user.id).await.unwrap().unwrap()
}

/// Creates a session in the store, `age` old.
pub(super) async fn session(store: &Arc<dyn UserStore>, user: &User, age: Duration) -> Session {
    let started = Session::start(user, "curl/8", "203.0.113.7", now() - age);
    let session = started.unwrap().0;
    assert!(store.create_session(&session).await.unwrap());
    session
}

pub(super) async fn is_kept(store: &Arc<dyn UserStore>, session: &Session) -> bool {
    store.find_session(&session.id).await.unwrap().is_some()
}

/// Changes the user's password. Returns whether the store accepted it.
pub(super) async fn change_password(
    store: &Arc<dyn UserStore>,
    user: &User,
    kept: &SessionId,
) -> bool {
    let hash = PasswordHash::new("$another");
    store.change_password(user, &hash, kept).await.unwrap()
}
