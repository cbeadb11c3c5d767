//! Password changes and deletions, which kill sessions.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use users::domain::Session;
use users::store::UserStore;

use super::fixtures::{ada, change_password, find, is_kept, now, session, user};

const OLD: Duration = Duration::from_secs(60);

pub(super) async fn another_password_ends_every_session_but_the_one_that_is_kept(
    store: Arc<dyn UserStore>,
) {
    let ada = ada(&store).await;
    let eve = user("eve@example.org");
    store.create_user(&eve).await.unwrap();
    let stranger = session(&store, &eve, OLD).await;
    let (kept, other) = (
        session(&store, &ada, OLD).await,
        session(&store, &ada, OLD).await,
    );
    assert!(store.with_dead_sessions(10).await.unwrap().is_empty());

    assert!(change_password(&store, &ada, &kept.id).await);
    let changed = find(&store, &ada).await;
    // Dead since that write, marked or not.
    assert!(kept.is_alive(&changed, now()) && !other.is_alive(&changed, now()));
    let due = store.with_dead_sessions(10).await.unwrap();
    assert_eq!(due, std::slice::from_ref(&ada.id));
    let new = session(&store, &changed, OLD).await;

    for _ in 0..2 {
        store.end_dead_sessions(&ada.id, now()).await.unwrap();
        assert!(store.with_dead_sessions(10).await.unwrap().is_empty());
        assert!(!is_kept(&store, &other).await);
        for alive in [&kept, &new, &stranger] {
            assert!(is_kept(&store, alive).await);
        }
    }

    // The kept session dies when another session changes the password.
    assert!(change_password(&store, &changed, &new.id).await);
    store.end_dead_sessions(&ada.id, now()).await.unwrap();
    assert!(is_kept(&store, &new).await && !is_kept(&store, &kept).await);
}

pub(super) async fn a_deletion_ends_every_session(store: Arc<dyn UserStore>) {
    let ada = ada(&store).await;
    let kept = session(&store, &ada, OLD).await;
    assert!(change_password(&store, &ada, &kept.id).await);
    store.end_dead_sessions(&ada.id, now()).await.unwrap();
    let ada = find(&store, &ada).await;
    let new = session(&store, &ada, OLD).await;
    let event = ada.deleted(now());
    store.delete_user(&ada, &event).await.unwrap().unwrap();
    let due = store.with_dead_sessions(10).await.unwrap();
    assert_eq!(due, std::slice::from_ref(&ada.id));
    store.end_dead_sessions(&ada.id, now()).await.unwrap();
    assert!(!is_kept(&store, &kept).await && !is_kept(&store, &new).await);
    assert!(store.with_dead_sessions(10).await.unwrap().is_empty());
    let nobody = user("nobody@example.org");
    store.end_dead_sessions(&nobody.id, now()).await.unwrap();
}

pub(super) async fn no_session_slips_through_between_a_login_and_a_new_password(
    store: Arc<dyn UserStore>,
) {
    for round in 0..10 {
        let user = user(&format!("ada{round}@example.org"));
        store.create_user(&user).await.unwrap();
        let kept = session(&store, &user, OLD).await;
        let sessions: Vec<_> = (0..8)
            .map(|_| Session::start(&user, "", "", now()).unwrap().0)
            .collect();
        let logins = join_all(sessions.iter().map(|session| store.create_session(session)));
        let change = async {
            assert!(change_password(&store, &user, &kept.id).await);
            store.end_dead_sessions(&user.id, now()).await.unwrap();
        };
        tokio::join!(logins, change);
        for session in &sessions {
            assert!(!is_kept(&store, session).await);
        }
        assert!(is_kept(&store, &kept).await);
    }
}
