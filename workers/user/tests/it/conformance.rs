//! What every `UserStore` does: one suite for all adapters. Each fact gets a fresh, empty store.
#![expect(clippy::unwrap_used, reason = "in a test suite a failure is a panic")]

mod accounts;
mod attempts;
mod endings;
mod sessions;

use std::sync::Arc;
use std::time::Duration;

use contract::id::SessionId;
use jiff::Timestamp;
use users::domain::{Email, Name, PasswordHash, Registration, Session, User};
use users::store::UserStore;

/// Runs a list of facts, each on a store of its own.
macro_rules! facts {
    ($fresh:ident: $($module:ident::$fact:ident,)*) => {
        $($module::$fact($fresh().await).await;)*
    };
}

/// Runs the whole suite on the stores that `fresh` makes.
pub(crate) async fn every_fact(fresh: impl AsyncFn() -> Arc<dyn UserStore>) {
    facts!(fresh:
        accounts::an_account_is_found_as_it_was_created,
        accounts::nobody_is_found_in_an_empty_store,
        accounts::one_address_in_two_spellings_is_one_account,
        accounts::of_parallel_creations_of_one_address_exactly_one_succeeds,
        accounts::preparing_twice_and_at_once_changes_nothing,
        accounts::a_password_is_rehashed_only_while_it_is_the_one_that_was_read,
        accounts::a_change_is_kept_over_the_version_before_and_no_other,
        accounts::an_address_is_taken_until_its_account_has_another,
        accounts::of_parallel_password_changes_exactly_one_succeeds,
        accounts::a_deleted_account_is_gone_and_its_event_waits,
        accounts::an_account_is_deleted_once,
        accounts::a_tombstone_is_purged_when_nothing_is_left_to_be_done,
        sessions::a_session_is_found_as_it_was_created_by_its_id_and_its_tokens,
        sessions::a_session_of_another_time_is_not_kept,
        sessions::of_parallel_refreshes_with_one_token_exactly_one_is_kept,
        sessions::an_ended_session_is_gone_and_ends_once,
        sessions::ends_are_told_in_order_from_any_point_on,
        sessions::a_session_ends_only_while_its_token_is_the_one_that_was_read,
        sessions::the_list_shows_what_is_alive_newest_first_in_pages,
        endings::another_password_ends_every_session_but_the_one_that_is_kept,
        endings::a_deletion_ends_every_session,
        endings::no_session_slips_through_between_a_login_and_a_new_password,
        attempts::of_parallel_attempts_exactly_a_burst_is_admitted,
        attempts::an_attempt_that_is_given_back_was_never_made,
        attempts::somebody_who_is_known_stays_so_for_a_while,
    );
}

fn now() -> Timestamp {
    contract::time::whole_millis(Timestamp::now())
}

fn user(email: &str) -> User {
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

/// A new account in the store.
async fn ada(store: &Arc<dyn UserStore>) -> User {
    let ada = user("ada@example.org");
    store.create_user(&ada).await.unwrap();
    ada
}

async fn find(store: &Arc<dyn UserStore>, user: &User) -> User {
    store.find_by_id(&user.id).await.unwrap().unwrap()
}

/// A new session in the store, `age` old.
async fn session(store: &Arc<dyn UserStore>, user: &User, age: Duration) -> Session {
    let started = Session::start(user, "curl/8", "203.0.113.7", now() - age);
    let session = started.unwrap().0;
    assert!(store.create_session(&session).await.unwrap());
    session
}

async fn is_kept(store: &Arc<dyn UserStore>, session: &Session) -> bool {
    store.find_session(&session.id).await.unwrap().is_some()
}

/// Whether the user's password could be changed.
async fn another_password(store: &Arc<dyn UserStore>, user: &User, kept: &SessionId) -> bool {
    let hash = PasswordHash::new("$another");
    store.change_password(user, &hash, kept).await.unwrap()
}
