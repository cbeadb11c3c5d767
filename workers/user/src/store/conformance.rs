//! What every [`UserStore`] does: one suite for all adapters. Each fact gets a fresh, empty store.
#![expect(clippy::unwrap_used, reason = "in a test suite a failure is a panic")]

use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;
use shared::id::UserId;

use super::{CreateUserError, UserStore};
use crate::domain::{Email, Name, PasswordHash, RefreshToken, Session, User};

/// Runs the whole suite on the stores that `fresh` makes.
pub async fn every_fact(fresh: impl AsyncFn() -> Arc<dyn UserStore>) {
    an_account_is_found_as_it_was_created(fresh().await).await;
    nobody_is_found_in_an_empty_store(fresh().await).await;
    one_address_in_two_spellings_is_one_account(fresh().await).await;
    of_parallel_creations_of_one_address_exactly_one_succeeds(fresh().await).await;
    preparing_twice_and_at_once_changes_nothing(fresh().await).await;
    a_password_is_replaced_only_while_it_is_the_one_that_was_read(fresh().await).await;
    a_user_has_any_number_of_sessions(fresh().await).await;
}

async fn an_account_is_found_as_it_was_created(store: Arc<dyn UserStore>) {
    let user = user("Ada.Lovelace@example.org");
    store.create_user(&user).await.unwrap();
    assert_eq!(
        store.find_by_id(&user.id).await.unwrap().as_ref(),
        Some(&user)
    );
    let key = Email::parse("ada.lovelace@EXAMPLE.org").unwrap().key();
    assert_eq!(store.find_by_email(&key).await.unwrap(), Some(user));
}

async fn nobody_is_found_in_an_empty_store(store: Arc<dyn UserStore>) {
    let user = user("ada@example.org");
    assert_eq!(store.find_by_id(&user.id).await.unwrap(), None);
    assert_eq!(store.find_by_email(&user.email.key()).await.unwrap(), None);
}

async fn one_address_in_two_spellings_is_one_account(store: Arc<dyn UserStore>) {
    let first = user("ada@bücher.example");
    store.create_user(&first).await.unwrap();
    let second = store.create_user(&user("ADA@xn--bcher-kva.example")).await;
    assert!(
        matches!(second, Err(CreateUserError::EmailTaken)),
        "{second:?}"
    );
    store.create_user(&user("ada@example.org")).await.unwrap();
    assert_eq!(
        store.find_by_email(&first.email.key()).await.unwrap(),
        Some(first)
    );
}

async fn of_parallel_creations_of_one_address_exactly_one_succeeds(store: Arc<dyn UserStore>) {
    let users: Vec<_> = (0..20).map(|_| user("ada@example.org")).collect();
    let created = join_all(users.iter().map(|user| store.create_user(user))).await;
    let mut winner = None;
    for (user, created) in users.iter().zip(created) {
        match created {
            Ok(()) => assert!(
                winner.replace(user).is_none(),
                "two accounts with one address"
            ),
            Err(CreateUserError::EmailTaken) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let found = store.find_by_email(&users[0].email.key()).await.unwrap();
    assert_eq!(found.as_ref(), winner);
    assert!(found.is_some());
}

async fn preparing_twice_and_at_once_changes_nothing(store: Arc<dyn UserStore>) {
    for prepared in join_all((0..4).map(|_| store.prepare())).await {
        prepared.unwrap();
    }
    store.ready().await.unwrap();
    store.create_user(&user("ada@example.org")).await.unwrap();
    store.prepare().await.unwrap();
}

async fn a_password_is_replaced_only_while_it_is_the_one_that_was_read(store: Arc<dyn UserStore>) {
    let user = user("ada@example.org");
    store.create_user(&user).await.unwrap();
    let password = async || store.find_by_id(&user.id).await.unwrap().unwrap().password;
    let (stronger, late) = (PasswordHash::new("$stronger"), PasswordHash::new("$late"));
    store
        .replace_password(&user.id, &user.password, &stronger)
        .await
        .unwrap();
    assert_eq!(password().await, stronger);
    store
        .replace_password(&user.id, &user.password, &late)
        .await
        .unwrap();
    assert_eq!(password().await, stronger);
}

async fn a_user_has_any_number_of_sessions(store: Arc<dyn UserStore>) {
    let (id, now) = (UserId::new(), Timestamp::now());
    for _ in 0..3 {
        let token = RefreshToken::generate().unwrap();
        let session = Session::new(id.clone(), &token, "curl/8", "203.0.113.7", now);
        store.create_session(&session).await.unwrap();
    }
}

fn user(email: &str) -> User {
    User::new(
        Email::parse(email).unwrap(),
        Name::parse("Ada").unwrap(),
        PasswordHash::new("$first"),
        shared::time::whole_millis(Timestamp::now()),
    )
}
