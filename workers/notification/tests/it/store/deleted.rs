//! Deleted users: nothing of theirs stays, nothing comes back, and other users are not affected.

use contract::id::UserId;
use notifications::domain::{Event, RETENTION};
use notifications::store::{Change, Expected, Outcome};
use stores::Once;
use tokio::task::JoinSet;

use super::{Store, apply, counter, delete_user, sequences, versions};
use crate::fixture::Task;

/// A task of one user, assigned to another; a third one acts.
fn shared_task() -> (Task, UserId, UserId) {
    let mut task = Task::new();
    let reader = UserId::new();
    task.assignee = Some(reader.clone());
    task.actor = UserId::new();
    (task.clone(), task.owner, reader)
}

/// Removes notifications until no deleted user has any. Returns how many steps it took.
async fn forget(store: &Store, limit: usize) -> usize {
    let mut steps = 0;
    while store.forget(limit).await.expect("the store is there") {
        steps += 1;
    }
    steps
}

pub(super) async fn a_deleted_user_is_told_nothing_more_and_others_are(store: Store) {
    let (task, leaver, reader) = shared_task();
    apply(&store, &task, &[1, 3]).await;
    assert_eq!(delete_user(&store, &leaver).await, Outcome::Applied);
    assert_eq!(delete_user(&store, &leaver).await, Outcome::Duplicate);
    let left = counter(&store, &leaver).await;
    assert_eq!((left.unread, left.deleted), (0, true));
    forget(&store, 500).await;
    assert!(versions(&store, &leaver).await.is_empty());

    // A late event, a new one, and a repeated one.
    use Outcome::{Applied, Duplicate};
    assert_eq!(
        apply(&store, &task, &[2, 4, 1]).await,
        [Applied, Applied, Duplicate]
    );
    assert_eq!(delete_user(&store, &leaver).await, Duplicate);
    assert_eq!(forget(&store, 500).await, 0);
    assert!(sequences(&store, &leaver).await.is_empty());
    assert_eq!(counter(&store, &leaver).await, left);
    assert_eq!(versions(&store, &reader).await, [4, 3, 2, 1]);
    assert_eq!(counter(&store, &reader).await.unread, 4);

    // A user who had no notification before gets none after the deletion.
    let (task, leaver, reader) = shared_task();
    assert_eq!(delete_user(&store, &leaver).await, Applied);
    assert_eq!(apply(&store, &task, &[1]).await, [Applied]);
    assert!(versions(&store, &leaver).await.is_empty());
    assert_eq!(versions(&store, &reader).await, [1]);
}

pub(super) async fn in_one_batch_it_does_not_matter_what_came_first(store: Store) {
    let (task, leaver, reader) = shared_task();
    let gone = || Event::UserDeleted(leaver.clone());
    let batch = [
        task.store_event(1),
        gone(),
        task.store_event(2),
        gone(),
        task.store_event(2),
    ];
    use Outcome::{Applied, Duplicate};
    assert_eq!(
        store
            .apply(&batch, task.born)
            .await
            .expect("the store is there"),
        [Applied, Applied, Applied, Duplicate, Duplicate]
    );
    assert!(versions(&store, &leaver).await.is_empty());
    assert_eq!(counter(&store, &leaver).await.unread, 0);
    assert_eq!(versions(&store, &reader).await, [2, 1]);
}

pub(super) async fn a_large_account_is_forgotten_in_steps(store: Store) {
    let (task, leaver, reader) = shared_task();
    apply(&store, &task, &(1..=25).collect::<Vec<_>>()).await;
    delete_user(&store, &leaver).await;
    for left in [15, 5, 0, 0] {
        assert!(store.forget(10).await.expect("the store is there"));
        assert_eq!(sequences(&store, &leaver).await.len(), left);
    }
    assert!(!store.forget(10).await.expect("the store is there"));
    assert_eq!(sequences(&store, &reader).await.len(), 25);
}

pub(super) async fn an_event_and_the_deletion_of_its_reader_at_once_end_right(store: Store) {
    for round in 0..25 {
        let (task, leaver, reader) = shared_task();
        // With an existing counter, and with one that both create.
        if round % 2 == 0 {
            apply(&store, &task, &[1]).await;
        }
        let deleting = {
            let (store, leaver) = (store.clone(), leaver.clone());
            tokio::spawn(async move { delete_user(&store, &leaver).await })
        };
        let outcomes = apply(&store, &task, &[2, 3]).await;
        assert_eq!(outcomes, [Outcome::Applied; 2]);
        assert_eq!(deleting.await.expect("it ends"), Outcome::Applied);
        forget(&store, 500).await;
        assert!(sequences(&store, &leaver).await.is_empty());
        assert_eq!(counter(&store, &leaver).await.unread, 0);
        let count = sequences(&store, &reader).await.len() as u64;
        assert_eq!(counter(&store, &reader).await.unread, count);
        assert_eq!(count, 2 + u64::from(round % 2 == 0));
    }
}

pub(super) async fn two_workers_forget_the_same_users(store: Store) {
    let mut leavers = Vec::new();
    for _ in 0..3 {
        let (task, leaver, reader) = shared_task();
        apply(&store, &task, &(1..=30).collect::<Vec<_>>()).await;
        delete_user(&store, &leaver).await;
        leavers.push((leaver, reader));
    }
    let mut workers = JoinSet::new();
    for _ in 0..2 {
        let store = store.clone();
        workers.spawn(async move { forget(&store, 4).await });
    }
    workers.join_all().await;
    for (leaver, reader) in leavers {
        assert!(sequences(&store, &leaver).await.is_empty());
        assert_eq!(sequences(&store, &reader).await.len(), 30);
        assert_eq!(counter(&store, &reader).await.unread, 30);
    }
}

pub(super) async fn what_a_deleted_user_still_has_is_counted_no_more(store: Store) {
    let task = Task::new();
    apply(&store, &task, &[1, 2, 3, 4]).await;
    let found = store
        .since(&task.owner, 0, 10)
        .await
        .expect("the store is there");
    delete_user(&store, &task.owner).await;
    let unread = async || counter(&store, &task.owner).await.unread;
    let [one, two, _, _] = [0, 1, 2, 3].map(|n: usize| &found[n].content.id);
    let (owner, any) = (&task.owner, Expected::ANY);
    let marked = store
        .set_read(owner, one, true, any)
        .await
        .expect("the store is there");
    assert!(matches!(marked, Change::Done(_)));
    let marked = store
        .set_read(owner, one, false, any)
        .await
        .expect("the store is there");
    assert!(matches!(marked, Change::Done(_)));
    assert_eq!(unread().await, 0);
    store
        .delete(owner, two, any)
        .await
        .expect("the store is there");
    let all = store
        .set_all_read(owner, None, task.born)
        .await
        .expect("the store is there");
    assert_eq!((all, unread().await), (Once::New(3), 0));
    store
        .set_read(owner, one, false, any)
        .await
        .expect("the store is there");
    let expired = task.born + RETENTION + jiff::SignedDuration::from_hours(1);
    assert_eq!(
        store.purge(expired, 10).await.expect("the store is there"),
        3
    );
    assert_eq!(unread().await, 0);
    assert_eq!(forget(&store, 500).await, 1);
}
