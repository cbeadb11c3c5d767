//! Accounts, from their creation to their tombstone.

use std::sync::Arc;
use std::time::Duration;

use contract::id::SessionId;
use futures_util::future::join_all;
use jiff::Timestamp;
use users::domain::{Change, Email, Name, PasswordHash, User};
use users::store::{SaveUserError, UserStore};

use super::fixtures::{ada, change_password, find, now, session, user};

pub(super) async fn an_account_is_found_as_it_was_created(store: Arc<dyn UserStore>) {
    let user = user("Ada.Lovelace@example.org");
    store.create_user(&user).await.unwrap();
    assert_eq!(find(&store, &user).await, user);
    let key = Email::parse("ada.lovelace@EXAMPLE.org").unwrap().key();
    assert_eq!(store.find_by_email(&key).await.unwrap(), Some(user));
}

pub(super) async fn nobody_is_found_in_an_empty_store(store: Arc<dyn UserStore>) {
    let user = user("ada@example.org");
    assert_eq!(store.find_by_id(&user.id).await.unwrap(), None);
    assert_eq!(store.find_by_email(&user.email.key()).await.unwrap(), None);
}

pub(super) async fn one_address_in_two_spellings_is_one_account(store: Arc<dyn UserStore>) {
    let first = user("ada@bücher.example");
    store.create_user(&first).await.unwrap();
    let second = store.create_user(&user("ADA@xn--bcher-kva.example")).await;
    assert!(
        matches!(second, Err(SaveUserError::EmailTaken)),
        "{second:?}"
    );
    store.create_user(&user("ada@example.org")).await.unwrap();
    assert_eq!(
        store.find_by_email(&first.email.key()).await.unwrap(),
        Some(first)
    );
}

pub(super) async fn of_parallel_creations_of_one_address_exactly_one_succeeds(
    store: Arc<dyn UserStore>,
) {
    let users: Vec<_> = (0..20).map(|_| user("ada@example.org")).collect();
    let created = join_all(users.iter().map(|user| store.create_user(user))).await;
    let mut winner = None;
    for (user, created) in users.iter().zip(created) {
        match created {
            Ok(()) => assert!(
                winner.replace(user).is_none(),
                "two accounts with one address"
            ),
            Err(SaveUserError::EmailTaken) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let found = store.find_by_email(&users[0].email.key()).await.unwrap();
    assert_eq!(found.as_ref(), winner);
    assert!(found.is_some());
}

pub(super) async fn preparing_twice_and_at_once_changes_nothing(store: Arc<dyn UserStore>) {
    for prepared in join_all((0..4).map(|_| store.prepare())).await {
        prepared.unwrap();
    }
    store.ping().await.unwrap();
    ada(&store).await;
    store.prepare().await.unwrap();
}

pub(super) async fn a_password_is_rehashed_only_while_it_is_the_one_that_was_read(
    store: Arc<dyn UserStore>,
) {
    let user = ada(&store).await;
    let (stronger, late) = (PasswordHash::new("$stronger"), PasswordHash::new("$late"));
    for new in [&stronger, &late] {
        let replaced = store.replace_password(&user.id, &user.password, new);
        replaced.await.unwrap();
        let found = find(&store, &user).await;
        assert_eq!((found.password, found.generation), (stronger.clone(), 0));
    }
}

pub(super) async fn a_change_is_kept_over_the_version_before_and_no_other(
    store: Arc<dyn UserStore>,
) {
    let user = ada(&store).await;
    let named = |name| Change {
        name: Name::parse(name).ok(),
        email: None,
    };
    let later = now() + Duration::from_secs(1);
    let (one, other) = (
        user.change(named("Ada L."), later).unwrap(),
        user.change(named("Countess"), later).unwrap(),
    );
    let both = [store.update_user(&one), store.update_user(&other)];
    let both: Vec<_> = join_all(both)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let winner = match both[..] {
        [true, false] => one,
        [false, true] => other,
        _ => panic!("{both:?}"),
    };
    assert_eq!(find(&store, &user).await, winner);
    let third = winner.change(named("Ada"), later).unwrap();
    assert!(store.update_user(&third).await.unwrap());
    assert!(!store.update_user(&third).await.unwrap());
    assert_eq!(find(&store, &user).await, third);
}

pub(super) async fn an_address_is_taken_until_its_account_has_another(store: Arc<dyn UserStore>) {
    let ada = ada(&store).await;
    let eve = user("eve@example.org");
    store.create_user(&eve).await.unwrap();
    let addressed = |email| Change {
        email: Email::parse(email).ok(),
        name: None,
    };
    let greedy = eve.change(addressed("ADA@example.org"), now()).unwrap();
    let refused = store.update_user(&greedy).await;
    assert!(
        matches!(refused, Err(SaveUserError::EmailTaken)),
        "{refused:?}"
    );
    assert_eq!(find(&store, &eve).await, eve);

    let moved = ada.change(addressed("ada@example.com"), now()).unwrap();
    assert!(store.update_user(&moved).await.unwrap());
    assert!(store.update_user(&greedy).await.unwrap());
    let by_email = async |user: &User| {
        let found = store.find_by_email(&user.email.key()).await.unwrap();
        found.map(|found| found.id)
    };
    assert_eq!(by_email(&moved).await, Some(ada.id));
    assert_eq!(by_email(&greedy).await, Some(eve.id));
}

pub(super) async fn of_parallel_password_changes_exactly_one_succeeds(store: Arc<dyn UserStore>) {
    let user = ada(&store).await;
    let changes: Vec<_> = (0..10)
        .map(|n| (PasswordHash::new(format!("${n}")), SessionId::new()))
        .collect();
    let results = changes
        .iter()
        .map(|(hash, kept)| store.change_password(&user, hash, kept));
    let results = join_all(results).await.into_iter().map(Result::unwrap);
    let winners: Vec<_> = results.zip(&changes).filter(|(won, _)| *won).collect();
    let [(_, (hash, kept))] = winners[..] else {
        panic!("{} of the changes succeeded", winners.len())
    };
    let found = find(&store, &user).await;
    assert_eq!(&found.password, hash);
    assert_eq!(found.kept_session.as_ref(), Some(kept));
    assert_eq!((found.generation, found.version), (1, 1));
    assert_eq!(found.registration, None);
    assert!(store.change_password(&found, hash, kept).await.unwrap());
    assert_eq!(find(&store, &user).await.generation, 2);
}

pub(super) async fn a_deleted_account_is_gone_and_its_event_waits(store: Arc<dyn UserStore>) {
    let user = ada(&store).await;
    let event = user.deleted(now());
    let pending = store.delete_user(&user, &event).await.unwrap().unwrap();
    assert_eq!(store.pending(Timestamp::MAX, 10).await.unwrap(), pending);
    assert_eq!((&pending[0].event, pending[0].version), (&event, 2));

    assert_eq!(store.find_by_id(&user.id).await.unwrap(), None);
    assert_eq!(store.find_by_email(&user.email.key()).await.unwrap(), None);
    let change = Change {
        name: Name::parse("Nobody").ok(),
        email: None,
    };
    let changed = user.change(change, now()).unwrap();
    assert!(!store.update_user(&changed).await.unwrap());
    assert!(!change_password(&store, &user, &SessionId::new()).await);

    // Its address is free, more than once.
    for _ in 0..2 {
        let next = ada(&store).await;
        let event = next.deleted(now());
        store.delete_user(&next, &event).await.unwrap().unwrap();
    }
    store.mark_published(&pending).await.unwrap();
    let left = store.pending(Timestamp::MAX, 10).await.unwrap();
    assert_eq!(left.len(), 2);
    assert!(!left.contains(&pending[0]));
}

pub(super) async fn an_account_is_deleted_once(store: Arc<dyn UserStore>) {
    let user = ada(&store).await;
    let event = user.deleted(now());
    let deleted = join_all((0..10).map(|_| store.delete_user(&user, &event))).await;
    let deleted = deleted.into_iter().filter_map(Result::unwrap);
    assert_eq!(deleted.count(), 1);
    assert_eq!(store.pending(Timestamp::MAX, 10).await.unwrap().len(), 1);
}

pub(super) async fn a_tombstone_is_purged_when_nothing_is_left_to_be_done(
    store: Arc<dyn UserStore>,
) {
    let user = ada(&store).await;
    session(&store, &user, Duration::ZERO).await;
    let event = user.deleted(now());
    let pending = store.delete_user(&user, &event).await.unwrap().unwrap();
    let later = event.time + Duration::from_secs(1);
    assert_eq!(store.purge(later).await.unwrap(), 0);
    store.mark_published(&pending).await.unwrap();
    assert_eq!(store.purge(later).await.unwrap(), 0);
    store.end_dead_sessions(&user.id, now()).await.unwrap();
    assert_eq!(store.purge(event.time).await.unwrap(), 0);
    assert_eq!(store.purge(later).await.unwrap(), 1);
    assert_eq!(store.purge(later).await.unwrap(), 0);
}
