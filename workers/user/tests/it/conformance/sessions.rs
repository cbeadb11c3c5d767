//! Creating, finding, refreshing, listing and ending sessions.

use std::sync::Arc;
use std::time::Duration;

use contract::id::SessionId;
use contract::page::{PageRequest, decode};
use contract::revocation::Ended;
use futures_util::future::join_all;
use users::domain::{LIFETIME, Presented, RefreshToken, Session, User};
use users::store::{SessionKey, UserStore};

use super::fixtures::{ada, change_password, find, is_kept, now, session, user};

/// Creates a session in the store. Returns it with its refresh token.
async fn start(store: &Arc<dyn UserStore>, user: &User) -> (Session, RefreshToken) {
    let started = Session::start(user, "curl/8", "203.0.113.7", now()).unwrap();
    assert!(store.create_session(&started.0).await.unwrap());
    started
}

/// The session after a refresh with its current token.
fn refreshed(session: &Session, token: &RefreshToken, device: &str) -> Session {
    match session.family.check(token, now()) {
        Presented::Current { next, .. } => session.refreshed(next, device, "2001:db8::1", now()),
        Presented::Recent(_) | Presented::Replayed => panic!("not the current token"),
    }
}

pub(super) async fn a_session_is_found_as_it_was_created_by_its_id_and_its_tokens(
    store: Arc<dyn UserStore>,
) {
    let user = ada(&store).await;
    let (session, token) = start(&store, &user).await;
    let by_id = async || store.find_session(&session.id).await.unwrap();
    let by_token = async |token: &RefreshToken| {
        let id = token.family_id();
        store.find_session_by_family(&id).await.unwrap()
    };
    assert_eq!(by_id().await.as_ref(), Some(&session));
    assert_eq!(by_token(&token).await.as_ref(), Some(&session));

    let after = refreshed(&session, &token, "curl/9");
    let kept = store.refresh_session(&session.family, &after);
    assert!(kept.await.unwrap());
    assert_eq!(by_id().await.as_ref(), Some(&after));
    assert_eq!(by_token(&token).await.as_ref(), Some(&after));
    assert_eq!(store.find_session(&SessionId::new()).await.unwrap(), None);
    let (_, stranger) = start(&store, &user).await;
    assert_ne!(by_token(&stranger).await.unwrap().id, session.id);
}

pub(super) async fn a_session_of_another_time_is_not_kept(store: Arc<dyn UserStore>) {
    let before = ada(&store).await;
    let late = async |user: &User| {
        let session = Session::start(user, "", "", now()).unwrap().0;
        let created = store.create_session(&session).await.unwrap();
        assert_eq!(is_kept(&store, &session).await, created);
        created
    };
    assert!(late(&before).await);
    assert!(change_password(&store, &before, &SessionId::new()).await);
    assert!(!late(&before).await);
    let after = find(&store, &before).await;
    assert!(late(&after).await);
    let event = after.deleted(now());
    store.delete_user(&after, &event).await.unwrap().unwrap();
    assert!(!late(&after).await);
    assert!(!late(&user("nobody@example.org")).await);
}

pub(super) async fn of_parallel_refreshes_with_one_token_exactly_one_is_kept(
    store: Arc<dyn UserStore>,
) {
    let user = ada(&store).await;
    let (session, token) = start(&store, &user).await;
    let devices: Vec<_> = (0..20).map(|n| format!("device {n}")).collect();
    let after: Vec<_> = devices
        .iter()
        .map(|device| refreshed(&session, &token, device))
        .collect();
    let kept = after
        .iter()
        .map(|after| store.refresh_session(&session.family, after));
    let kept = join_all(kept).await.into_iter().map(Result::unwrap);
    let winners: Vec<_> = after.iter().zip(kept).filter(|(_, kept)| *kept).collect();
    let [(winner, _)] = winners[..] else {
        panic!("{} were kept", winners.len())
    };
    assert_eq!(
        store.find_session(&session.id).await.unwrap().as_ref(),
        Some(winner)
    );
}

pub(super) async fn an_ended_session_is_gone_and_ends_once(store: Arc<dyn UserStore>) {
    let user = ada(&store).await;
    let (session, token) = start(&store, &user).await;
    let ended = join_all((0..10).map(|_| store.end_session(&session.id, None, now()))).await;
    assert_eq!(
        ended.into_iter().filter(|e| *e.as_ref().unwrap()).count(),
        1
    );
    assert!(!is_kept(&store, &session).await);
    let found = store
        .find_session_by_family(&token.family_id())
        .await
        .unwrap();
    assert_eq!(found, None);
    let after = refreshed(&session, &token, "late");
    let kept = store.refresh_session(&session.family, &after);
    assert!(!kept.await.unwrap());
    let unknown = SessionId::new();
    assert!(!store.end_session(&unknown, None, now()).await.unwrap());
}

pub(super) async fn ends_are_told_in_order_from_any_point_on(store: Arc<dyn UserStore>) {
    let user = ada(&store).await;
    let begin = now();
    start(&store, &user).await;
    let mut all = Vec::new();
    // Two sessions end at each time.
    for n in [4, 2, 3, 3, 4, 2] {
        let (session, _) = start(&store, &user).await;
        let at = begin + Duration::from_secs(n);
        assert!(store.end_session(&session.id, None, at).await.unwrap());
        let sid = session.id;
        all.push(Ended { sid, at });
    }
    all.sort_by_key(|end| (end.at, end.sid.clone()));
    for limit in [1, 2, 4, 100] {
        let mut listed = Vec::new();
        let mut after = SessionKey(begin.as_millisecond(), String::new());
        loop {
            let some = store.ended_sessions(&after, limit).await.unwrap();
            assert!(some.len() <= limit);
            let Some(last) = some.last() else { break };
            after = SessionKey(last.at.as_millisecond(), last.sid.to_string());
            listed.extend(some);
        }
        assert_eq!(listed, all, "by {limit}");
    }
    let later = SessionKey(
        (begin + Duration::from_secs(3)).as_millisecond(),
        String::new(),
    );
    assert_eq!(store.ended_sessions(&later, 100).await.unwrap(), all[2..]);
}

pub(super) async fn a_session_ends_only_while_its_token_is_the_one_that_was_read(
    store: Arc<dyn UserStore>,
) {
    let user = ada(&store).await;
    let (session, token) = start(&store, &user).await;
    let after = refreshed(&session, &token, "curl/8");
    let kept = store.refresh_session(&session.family, &after);
    assert!(kept.await.unwrap());
    let end = async |family| {
        store
            .end_session(&session.id, Some(family), now())
            .await
            .unwrap()
    };
    assert!(!end(&session.family).await);
    assert!(is_kept(&store, &session).await);
    assert!(end(&after.family).await);
    assert!(!is_kept(&store, &session).await);
}

pub(super) async fn the_list_shows_what_is_alive_newest_first_in_pages(store: Arc<dyn UserStore>) {
    let ada = ada(&store).await;
    let eve = user("eve@example.org");
    store.create_user(&eve).await.unwrap();
    let minutes = |n: u64| Duration::from_secs(60 * n);
    session(&store, &eve, minutes(1)).await;
    let old = session(&store, &ada, minutes(90)).await;
    let dead = session(&store, &ada, minutes(80)).await;
    assert!(change_password(&store, &ada, &old.id).await);
    let ada = find(&store, &ada).await;
    let ended = session(&store, &ada, minutes(70)).await;
    store.end_session(&ended.id, None, now()).await.unwrap();
    session(&store, &ada, LIFETIME - minutes(1)).await;
    // Two sessions of the same time are ordered by id.
    let moment = now() - minutes(50);
    let mut expected = vec![old];
    for _ in 0..2 {
        let twin = Session::start(&ada, "", "", moment).unwrap().0;
        assert!(store.create_session(&twin).await.unwrap());
        expected.push(twin);
    }
    expected.push(session(&store, &ada, minutes(10)).await);
    expected.reverse();

    let list = async |limit, after| {
        let page = PageRequest { limit, after };
        let soon = now() + minutes(2);
        store.list_sessions(&ada, &page, soon).await.unwrap()
    };
    let whole = list(100, None).await;
    assert!(!whole.items.iter().any(|found| found.id == dead.id));
    assert_eq!(whole.items, expected);
    assert_eq!(whole.next_cursor, None);

    let (mut found, mut after) = (Vec::new(), None::<SessionKey>);
    loop {
        let page = list(1, after).await;
        assert_eq!(page.items.len(), 1);
        found.extend(page.items);
        let Some(cursor) = page.next_cursor else {
            break;
        };
        after = Some(decode(&cursor).unwrap());
        // Sessions that begin meanwhile come first, before this page.
        session(&store, &ada, Duration::ZERO).await;
    }
    assert_eq!(found, expected);
}
