//! Marking and deleting notifications, and the counts that change with them.

use std::sync::Arc;

use contract::id::UserId;
use contract::page::PageRequest;
use jiff::SignedDuration;
use notifications::domain::RETENTION;
use notifications::store::{Change, Expected, Filter, Outcome};
use stores::Once;
use tokio::task::JoinSet;

use super::{Store, apply, counter, versions};
use crate::fixture::Task;

const UNREAD: Expected = Expected {
    read: false,
    unread: true,
};

pub(super) async fn marking_is_idempotent_and_counted(store: Store) {
    let task = Task::new();
    apply(&store, &task, &[1, 2]).await;
    let id = store
        .since(&task.owner, 0, 1)
        .await
        .expect("the store is there")[0]
        .content
        .id
        .clone();
    for (read, unread) in [(true, 1), (true, 1), (false, 2), (false, 2), (true, 1)] {
        let marked = store
            .set_read(&task.owner, &id, read, Expected::ANY)
            .await
            .expect("the store is there");
        let Change::Done(marked) = marked else {
            panic!("{marked:?}")
        };
        assert_eq!(marked.read, read);
        let found = store
            .get(&task.owner, &id)
            .await
            .expect("the store is there");
        assert_eq!(found, Some(marked));
        assert_eq!(
            store
                .counter(&task.owner)
                .await
                .expect("the store is there")
                .unread,
            unread
        );
    }
}

pub(super) async fn marking_all_leaves_what_others_have(store: Store) {
    let (task, other) = (Task::new(), Task::new());
    let versions: Vec<u64> = (1..=600).collect();
    apply(&store, &task, &versions).await;
    apply(&store, &other, &[1]).await;
    let mark = async || {
        store
            .set_all_read(&task.owner, None, task.born)
            .await
            .expect("the store is there")
    };
    assert_eq!((mark().await, mark().await), (Once::New(600), Once::New(0)));
    let unread = async |user| {
        store
            .counter(user)
            .await
            .expect("the store is there")
            .unread
    };
    assert_eq!(
        (unread(&task.owner).await, unread(&other.owner).await),
        (0, 1)
    );
    let page = PageRequest {
        limit: 1,
        after: None,
    };
    let filter = Filter {
        read: Some(false),
        kind: None,
    };
    let left = store
        .list(&task.owner, filter, &page)
        .await
        .expect("the store is there");
    assert!(left.is_empty());
}

pub(super) async fn a_deleted_notification_takes_its_count_along_and_stays_away(store: Store) {
    let task = Task::new();
    apply(&store, &task, &[1, 2]).await;
    let found = store
        .since(&task.owner, 0, 2)
        .await
        .expect("the store is there");
    let delete = async |n: usize| {
        let id = &found[n].content.id;
        let change = store
            .delete(&task.owner, id, Expected::ANY)
            .await
            .expect("the store is there");
        matches!(change, Change::Done(_))
    };
    let id = &found[1].content.id;
    store
        .set_read(&task.owner, id, true, Expected::ANY)
        .await
        .expect("the store is there");
    assert_eq!(
        [delete(0).await, delete(0).await, delete(1).await],
        [true, false, true]
    );
    assert_eq!(apply(&store, &task, &[1, 2]).await, [Outcome::Duplicate; 2]);
    assert!(versions(&store, &task.owner).await.is_empty());
    let counter = store
        .counter(&task.owner)
        .await
        .expect("the store is there");
    assert_eq!((counter.sequence, counter.unread), (2, 0));
}

pub(super) async fn a_change_happens_in_an_expected_state_only(store: Store) {
    let task = Task::new();
    apply(&store, &task, &[1]).await;
    let found = store
        .since(&task.owner, 0, 1)
        .await
        .expect("the store is there")
        .remove(0);
    let id = &found.content.id;
    let mark = async |read, expected| {
        let change = store.set_read(&task.owner, id, read, expected).await;
        change.expect("the store is there")
    };
    let delete = async |expected| {
        let change = store.delete(&task.owner, id, expected).await;
        change.expect("the store is there")
    };
    let nothing = Expected {
        read: false,
        unread: false,
    };
    for read in [true, false] {
        assert_eq!(mark(read, nothing).await, Change::Unexpected(found.clone()));
    }
    assert!(matches!(mark(true, UNREAD).await, Change::Done(now) if now.read));
    // Also when nothing would change.
    assert!(matches!(mark(true, UNREAD).await, Change::Unexpected(now) if now.read));
    assert!(matches!(delete(UNREAD).await, Change::Unexpected(now) if now.read));
    assert_eq!(counter(&store, &task.owner).await.unread, 0);
    assert!(matches!(mark(false, Expected::ANY).await, Change::Done(now) if !now.read));
    assert_eq!(delete(UNREAD).await, Change::Done(found.clone()));
    assert_eq!(delete(UNREAD).await, Change::Missing);
    assert_eq!(mark(true, UNREAD).await, Change::Missing);
    assert_eq!(counter(&store, &task.owner).await.unread, 0);
}

pub(super) async fn of_many_who_expect_it_unread_one_marks_it(store: Store) {
    let task = Task::new();
    apply(&store, &task, &[1, 2]).await;
    let found = store
        .since(&task.owner, 0, 2)
        .await
        .expect("the store is there");
    for (round, found) in found.iter().enumerate() {
        let mut many = JoinSet::new();
        for _ in 0..8 {
            let (store, owner) = (store.clone(), task.owner.clone());
            let id = found.content.id.clone();
            many.spawn(async move {
                match round {
                    0 => store.set_read(&owner, &id, true, UNREAD).await,
                    _ => store.delete(&owner, &id, UNREAD).await,
                }
            });
        }
        let changes = many.join_all().await;
        let done = |change: &&Result<_, _>| matches!(change, Ok(Change::Done(_)));
        assert_eq!(changes.iter().filter(done).count(), 1, "{changes:?}");
        assert!(changes.iter().all(Result::is_ok));
    }
    assert_eq!(counter(&store, &task.owner).await.unread, 0);
}

pub(super) async fn whatever_happens_at_once_unread_is_what_is_there(store: Store) {
    let owner = UserId::new();
    let (task, mut old) = (Task::of(&owner), Task::of(&owner));
    old.born = task.born - RETENTION - SignedDuration::from_hours(1);
    apply(&store, &task, &(1..=40).collect::<Vec<_>>()).await;
    apply(&store, &old, &(1..=40).collect::<Vec<_>>()).await;
    let found = Arc::new(
        store
            .since(&owner, 0, 100)
            .await
            .expect("the store is there"),
    );
    let mut all = JoinSet::new();
    for worker in 0..5 {
        let (store, found, owner) = (store.clone(), found.clone(), owner.clone());
        let (later, now) = (Task::of(&owner), task.born);
        all.spawn(async move {
            for turn in 0..40 {
                let id = &found[(turn * 7 + worker) % found.len()].content.id;
                match (worker, turn % 8) {
                    (0, 7) => drop(
                        store
                            .set_all_read(&owner, None, now)
                            .await
                            .expect("the store is there"),
                    ),
                    (0 | 1, _) => {
                        let read = store.set_read(&owner, id, turn % 2 == 0, Expected::ANY);
                        drop(read.await.expect("the store is there"));
                    }
                    (2, _) => drop(
                        store
                            .delete(&owner, id, UNREAD)
                            .await
                            .expect("the store is there"),
                    ),
                    (3, _) => drop(store.purge(now, 3).await.expect("the store is there")),
                    (_, _) => drop(apply(&store, &later, &[turn as u64 + 1]).await),
                }
            }
        });
    }
    all.join_all().await;
    let page = PageRequest {
        limit: 1_000,
        after: None,
    };
    let unread = Filter {
        read: Some(false),
        kind: None,
    };
    let unread = store
        .list(&owner, unread, &page)
        .await
        .expect("the store is there");
    assert_eq!(
        counter(&store, &owner).await.unread,
        unread.len() as u64,
        "{unread:?}"
    );
    let left = store
        .since(&owner, 0, 1_000)
        .await
        .expect("the store is there");
    assert!(left.iter().all(|n| n.content.task_id != old.id), "{left:?}");
}
