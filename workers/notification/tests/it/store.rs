//! The conformance suite: what every [`NotificationStore`] must do. All adapters run the same tests.

mod deleted;
mod marks;
mod pages;
mod read_all;

use std::collections::BTreeSet;
use std::sync::Arc;

use contract::id::UserId;
use contract::page::PageRequest;
use jiff::{SignedDuration, Timestamp};
use notifications::domain::{Event, Kind, Notification, RETENTION};
use notifications::store::{Change, Counter, Cursor, Expected, Filter, NotificationStore, Outcome};
use tokio::task::JoinSet;

use crate::fixture::{Fixture, SOON, Task};
use deleted::*;
use marks::*;
use pages::*;
use read_all::*;

type Store = Arc<dyn NotificationStore>;

/// One test for each fact; `$fresh` opens a new store.
macro_rules! conformance {
    ($fresh:path) => {
        conformance!($fresh:
            an_event_is_applied_once_however_often_it_comes
            sequence_numbers_are_given_in_order_and_each_once
            a_late_version_is_listed_in_its_place
            pages_are_stable_and_filters_hold
            a_cursor_outlives_its_notification_and_fits_every_filter
            marking_is_idempotent_and_counted
            marking_all_leaves_what_others_have
            a_deleted_notification_takes_its_count_along_and_stays_away
            what_is_not_mine_is_not_there
            parallel_writers_lose_no_count
            a_reader_of_the_sequence_never_skips_one
            retention_removes_notifications_with_their_counts
            a_change_happens_in_an_expected_state_only
            of_many_who_expect_it_unread_one_marks_it
            whatever_happens_at_once_unread_is_what_is_there
            a_key_marks_once_and_is_answered_the_same_again
            a_key_that_is_sent_by_many_at_once_is_answered_the_same_to_all
            a_read_all_that_broke_off_is_finished_by_its_key
            a_deleted_user_is_told_nothing_more_and_others_are
            in_one_batch_it_does_not_matter_what_came_first
            a_large_account_is_forgotten_in_steps
            an_event_and_the_deletion_of_its_reader_at_once_end_right
            two_workers_forget_the_same_users
            what_a_deleted_user_still_has_is_counted_no_more
        );
    };
    ($fresh:path: $($fact:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $fact() {
            let store: Store = $fresh().await;
            super::$fact(store).await;
        }
    )*};
}

mod mongodb {
    use super::*;

    async fn fresh() -> Store {
        Fixture::new().await.store().await
    }

    conformance!(fresh);
}

mod sqlite {
    use notifications_sqlite::SqliteNotifications;
    use tempfile::TempDir;

    use super::*;

    fn open(folder: &TempDir) -> Store {
        let store = SqliteNotifications::open(&folder.path().join("notifications.db"));
        Arc::new(store.expect("a new file"))
    }

    /// The folder is removed at once; the open file remains until it is closed.
    async fn fresh() -> Store {
        open(&TempDir::new().expect("a folder"))
    }

    conformance!(fresh);

    #[tokio::test]
    async fn what_was_answered_is_there_when_the_file_is_opened_again() {
        let folder = TempDir::new().expect("a folder");
        let store = open(&folder);
        let task = Task::new();
        apply(&store, &task, &[1, 2]).await;
        let before = counter(&store, &task.owner).await;
        drop(store);

        let store = open(&folder);
        assert_eq!(counter(&store, &task.owner).await, before);
        assert_eq!(versions(&store, &task.owner).await, [2, 1]);
        let again = apply(&store, &task, &[2, 3]).await;
        assert_eq!(again, [Outcome::Duplicate, Outcome::Applied]);
    }
}

async fn apply(store: &Store, task: &Task, versions: &[u64]) -> Vec<Outcome> {
    let events: Vec<_> = versions.iter().map(|v| task.store_event(*v)).collect();
    store
        .apply(&events, task.born)
        .await
        .expect("the store is there")
}

async fn delete_user(store: &Store, user: &UserId) -> Outcome {
    let outcomes = store
        .apply(&[Event::UserDeleted(user.clone())], Timestamp::now())
        .await
        .expect("the store is there");
    outcomes[0]
}

async fn counter(store: &Store, user: &UserId) -> Counter {
    store.counter(user).await.expect("the store is there")
}

async fn versions(store: &Store, user: &UserId) -> Vec<u64> {
    let page = PageRequest {
        limit: 100,
        after: None,
    };
    let found = store
        .list(user, Filter::default(), &page)
        .await
        .expect("the store is there");
    found.iter().map(|n| n.content.task_version).collect()
}

async fn sequences(store: &Store, user: &UserId) -> Vec<u64> {
    let found = store
        .since(user, 0, 10_000)
        .await
        .expect("the store is there");
    found.iter().map(|n| n.sequence).collect()
}

async fn an_event_is_applied_once_however_often_it_comes(store: Store) {
    use Outcome::{Applied, Duplicate};
    let task = Task::new();
    assert_eq!(
        apply(&store, &task, &[1, 2, 1]).await,
        [Applied, Applied, Duplicate]
    );
    assert_eq!(apply(&store, &task, &[2, 3]).await, [Duplicate, Applied]);
    assert_eq!(apply(&store, &task, &[]).await, []);
    assert_eq!(versions(&store, &task.owner).await, [3, 2, 1]);
    let counter = store
        .counter(&task.owner)
        .await
        .expect("the store is there");
    assert_eq!(
        counter,
        Counter {
            sequence: 3,
            unread: 3,
            purged: 0,
            deleted: false
        }
    );
}

async fn sequence_numbers_are_given_in_order_and_each_once(store: Store) {
    let (task, mut shared) = (Task::new(), Task::new());
    shared.assignee = Some(task.owner.clone());
    apply(&store, &task, &[1, 2]).await;
    apply(&store, &shared, &[1]).await;
    apply(&store, &task, &[3]).await;
    assert_eq!(sequences(&store, &task.owner).await, [1, 2, 3, 4]);
    let found = store
        .since(&task.owner, 2, 1)
        .await
        .expect("the store is there");
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].sequence, &found[0].content.task_id),
        (3, &shared.id)
    );
    // The owner acted, and there was another recipient.
    assert!(sequences(&store, &shared.owner).await.is_empty());
}

async fn a_late_version_is_listed_in_its_place(store: Store) {
    let task = Task::new();
    apply(&store, &task, &[4, 1]).await;
    apply(&store, &task, &[3]).await;
    apply(&store, &task, &[2]).await;
    assert_eq!(versions(&store, &task.owner).await, [4, 3, 2, 1]);
}

async fn what_is_not_mine_is_not_there(store: Store) {
    let (task, stranger) = (Task::new(), UserId::new());
    apply(&store, &task, &[1]).await;
    let id = store
        .since(&task.owner, 0, 1)
        .await
        .expect("the store is there")[0]
        .content
        .id
        .clone();
    assert_eq!(
        store.get(&stranger, &id).await.expect("the store is there"),
        None
    );
    assert_eq!(
        store
            .set_read(&stranger, &id, true, Expected::ANY)
            .await
            .expect("the store is there"),
        Change::Missing
    );
    assert_eq!(
        store
            .delete(&stranger, &id, Expected::ANY)
            .await
            .expect("the store is there"),
        Change::Missing
    );
    assert!(versions(&store, &stranger).await.is_empty());
    assert_eq!(
        store.counter(&stranger).await.expect("the store is there"),
        Counter::default()
    );
    assert_eq!(
        store
            .counter(&task.owner)
            .await
            .expect("the store is there")
            .unread,
        1
    );
}

async fn parallel_writers_lose_no_count(store: Store) {
    const WRITERS: u64 = 4;
    const BATCHES: u64 = 8;
    let owner = UserId::new();
    let first = Task::of(&owner);
    apply(&store, &first, &[1]).await;
    let id = store.since(&owner, 0, 1).await.expect("the store is there")[0]
        .content
        .id
        .clone();

    let mut writers = JoinSet::new();
    let common = Task::of(&owner);
    for _ in 0..WRITERS {
        let (store, common, own) = (store.clone(), common.clone(), Task::of(&owner));
        writers.spawn(async move {
            let mut applied = 0;
            for batch in 0..BATCHES {
                // All writers apply the first event, only this one applies the second.
                let version = batch + 1;
                let events = [common.store_event(version), own.store_event(version)];
                let outcomes = store
                    .apply(&events, own.born)
                    .await
                    .expect("the store is there");
                applied += outcomes.iter().filter(|o| **o == Outcome::Applied).count();
            }
            applied
        });
    }
    for n in 0..20 {
        store
            .set_read(&owner, &id, n % 2 == 0, Expected::ANY)
            .await
            .expect("the store is there");
    }
    let applied: usize = writers.join_all().await.iter().sum();
    assert_eq!(applied as u64, BATCHES + WRITERS * BATCHES);
    let total = applied as u64 + 1;
    let counter = store.counter(&owner).await.expect("the store is there");
    assert_eq!(
        counter,
        Counter {
            sequence: total,
            unread: total,
            purged: 0,
            deleted: false
        }
    );
    assert_eq!(
        sequences(&store, &owner).await,
        (1..=total).collect::<Vec<_>>()
    );
}

async fn a_reader_of_the_sequence_never_skips_one(store: Store) {
    const EVENTS: u64 = 60;
    let owner = UserId::new();
    let mut writers = JoinSet::new();
    for _ in 0..3 {
        let (store, task) = (store.clone(), Task::of(&owner));
        writers.spawn(async move {
            for version in 1..=EVENTS / 3 {
                store
                    .apply(&[task.store_event(version)], task.born)
                    .await
                    .expect("the store is there");
            }
        });
    }
    let reading = async {
        let mut seen = 0;
        while seen < EVENTS {
            for found in store
                .since(&owner, seen, 7)
                .await
                .expect("the store is there")
            {
                assert_eq!(found.sequence, seen + 1);
                seen = found.sequence;
            }
        }
    };
    tokio::time::timeout(SOON, reading)
        .await
        .expect("every number within 30 s");
    writers.join_all().await;
}

async fn retention_removes_notifications_with_their_counts(store: Store) {
    let owner = UserId::new();
    let (mut old, young) = (Task::of(&owner), Task::of(&owner));
    old.born = young.born - SignedDuration::from_hours(48);
    apply(&store, &old, &[1, 2]).await;
    apply(&store, &young, &[1]).await;
    let first = store.since(&owner, 0, 1).await.expect("the store is there")[0]
        .content
        .id
        .clone();
    store
        .set_read(&owner, &first, true, Expected::ANY)
        .await
        .expect("the store is there");

    let now = old.born + RETENTION + SignedDuration::from_hours(1);
    assert_eq!(store.purge(now, 1).await.expect("the store is there"), 1);
    assert_eq!(store.purge(now, 10).await.expect("the store is there"), 1);
    assert_eq!(store.purge(now, 10).await.expect("the store is there"), 0);
    assert_eq!(versions(&store, &owner).await, [1]);
    let counter = store.counter(&owner).await.expect("the store is there");
    assert_eq!(
        counter,
        Counter {
            sequence: 3,
            unread: 1,
            purged: 2,
            deleted: false
        }
    );
    // Delivered again, it stays away.
    assert_eq!(apply(&store, &old, &[1]).await, [Outcome::Duplicate]);
}
