//! Marking all notifications as read with an `Idempotency-Key`.

use std::collections::BTreeSet;

use contract::id::UserId;
use jiff::{SignedDuration, Timestamp};
use stores::idempotency::{Digest, LIFETIME};
use stores::{Idempotency, Once};
use testkit::eventually;
use tokio::task::JoinSet;

use super::{Store, apply, counter};
use crate::fixture::{SOON, Task};

fn key(name: &str, body: &str) -> Idempotency {
    Idempotency {
        key: Digest::of(name.as_bytes()),
        body: Digest::of(body.as_bytes()),
    }
}

async fn mark(store: &Store, user: &UserId, key: &Idempotency, now: Timestamp) -> Once<u64, u64> {
    store
        .set_all_read(user, Some(key), now)
        .await
        .expect("the store is there")
}

pub(super) async fn a_key_marks_once_and_is_answered_the_same_again(store: Store) {
    let (task, other) = (Task::new(), Task::new());
    apply(&store, &task, &[1, 2, 3]).await;
    apply(&store, &other, &[1]).await;
    let (owner, now) = (&task.owner, task.born);
    let (a, b) = (key("a", ""), key("b", ""));
    assert_eq!(mark(&store, owner, &a, now).await, Once::New(3));
    apply(&store, &task, &[4]).await;
    assert_eq!(mark(&store, owner, &a, now).await, Once::Before(3));
    assert_eq!(
        mark(&store, owner, &key("a", "{}"), now).await,
        Once::Mismatch
    );
    assert_eq!(counter(&store, owner).await.unread, 1);
    assert_eq!(mark(&store, &other.owner, &a, now).await, Once::New(1));
    assert_eq!(mark(&store, owner, &b, now).await, Once::New(1));
    assert_eq!(mark(&store, owner, &b, now).await, Once::Before(1));
    // With nothing to mark, the answer is stored too.
    let c = key("c", "");
    assert_eq!(mark(&store, owner, &c, now).await, Once::New(0));
    apply(&store, &task, &[5]).await;
    assert_eq!(mark(&store, owner, &c, now).await, Once::Before(0));

    let day = SignedDuration::try_from(LIFETIME).expect("a day");
    assert_eq!(mark(&store, owner, &a, now + day).await, Once::Before(3));
    let later = now + day + SignedDuration::from_millis(1);
    assert_eq!(mark(&store, owner, &a, later).await, Once::New(1));
}

pub(super) async fn a_key_that_is_sent_by_many_at_once_is_answered_the_same_to_all(store: Store) {
    const ALL: u64 = 1_200;
    let task = Task::new();
    apply(&store, &task, &(1..=ALL).collect::<Vec<_>>()).await;
    let mut many = JoinSet::new();
    for _ in 0..8 {
        let (store, owner, now) = (store.clone(), task.owner.clone(), task.born);
        many.spawn(async move { mark(&store, &owner, &key("a", ""), now).await });
    }
    let answers = many.join_all().await;
    let new = answers.iter().filter(|answer| **answer == Once::New(ALL));
    assert_eq!(new.count(), 1, "{answers:?}");
    let before = answers
        .iter()
        .filter(|answer| **answer == Once::Before(ALL));
    assert_eq!(before.count(), 7, "{answers:?}");
    assert_eq!(counter(&store, &task.owner).await.unread, 0);
}

pub(super) async fn a_read_all_that_broke_off_is_finished_by_its_key(store: Store) {
    const ALL: u64 = 3_000;
    let task = Task::new();
    for part in (1..=ALL).collect::<Vec<_>>().chunks(500) {
        apply(&store, &task, part).await;
    }
    let (again, owner, now) = (store.clone(), task.owner.clone(), task.born);
    let first = tokio::spawn(async move { mark(&again, &owner, &key("a", ""), now).await });
    eventually(SOON, async || {
        counter(&store, &task.owner).await.unread < ALL
    })
    .await;
    first.abort();
    assert!(first.await.is_err_and(|error| error.is_cancelled()));
    // It does not mark notifications that arrived after the first request.
    let late = Task::of(&task.owner);
    apply(&store, &late, &[1]).await;
    assert_eq!(
        mark(&store, &task.owner, &key("a", ""), now).await,
        Once::Before(ALL)
    );
    assert_eq!(counter(&store, &task.owner).await.unread, 1);
    let found = store
        .since(&task.owner, 0, 10_000)
        .await
        .expect("the store is there");
    let unread: BTreeSet<_> = found
        .iter()
        .filter(|found| !found.read)
        .map(|found| found.content.task_id.clone())
        .collect();
    assert_eq!(unread, [late.id].into());
}
