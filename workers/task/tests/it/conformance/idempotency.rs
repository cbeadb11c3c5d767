//! Idempotency keys: a request happens once, and its answer lasts as long as its key.

use std::sync::Arc;
use std::time::Duration;

use contract::event::Envelope;
use events::outbox::Pending;
use stores::idempotency::{Digest, LIFETIME};
use stores::{Idempotency, Once};
use tasks::domain::{NewTask, Task};
use tasks::store::TaskStore;

use super::{all_pending, at, new, retitled, user};

type Inserted = Once<Vec<Pending>, Task>;

const DAY: i64 = 24 * 3600 * 1000;

fn key(name: &str, body: &str) -> Idempotency {
    Idempotency {
        key: Digest::of(name.as_bytes()),
        body: Digest::of(body.as_bytes()),
    }
}

/// A new task of the owner, with its event.
fn created(owner: &str, title: &str, ms: i64) -> (Task, Envelope) {
    Task::create(user(owner), new(title), at(ms))
}

async fn insert(
    store: &impl TaskStore,
    (task, event): &(Task, Envelope),
    key: &Idempotency,
) -> Inserted {
    store.insert(task, event, Some(key)).await.unwrap()
}

fn is_new(inserted: &Inserted) -> bool {
    matches!(inserted, Once::New(_))
}

pub(crate) async fn a_key_gives_its_first_task_whatever_has_become_of_it(store: impl TaskStore) {
    let long = NewTask {
        description: "\u{1F331} ß\n".repeat(2_000),
        ..new("first")
    };
    let first = Task::create(user("owner"), long, at(0));
    let (task, event) = first.clone();
    let key = key("k", "b");
    let pending = vec![Pending { version: 1, event }];
    assert_eq!(insert(&store, &first, &key).await, Once::New(pending));
    let again = async |title: &str| insert(&store, &created("owner", title, 5), &key).await;
    assert_eq!(again("unpublished").await, Once::Before(task.clone()));

    let (second, event) = retitled(&task, "other", 1);
    store.update(&second, &event).await.unwrap();
    assert_eq!(again("changed").await, Once::Before(task.clone()));
    store
        .mark_published(&all_pending(&store).await)
        .await
        .unwrap();
    assert_eq!(again("published").await, Once::Before(task.clone()));

    let (gone, event) = second.delete(&user("owner"), at(2)).unwrap();
    store.delete(&gone, &event).await.unwrap();
    assert_eq!(again("deleted").await, Once::Before(task.clone()));
    store
        .mark_published(&all_pending(&store).await)
        .await
        .unwrap();
    assert_eq!(again("all published").await, Once::Before(task));
    assert!(all_pending(&store).await.is_empty());
}

pub(crate) async fn a_key_that_was_used_for_another_body_writes_nothing(store: impl TaskStore) {
    assert!(is_new(
        &insert(&store, &created("owner", "x", 0), &key("k", "b")).await
    ));
    let other = insert(&store, &created("owner", "y", 1), &key("k", "other")).await;
    assert_eq!(other, Once::Mismatch);
    assert_eq!(all_pending(&store).await.len(), 1);
    assert!(is_new(
        &insert(&store, &created("owner", "y", 1), &key("l", "other")).await
    ));
}

pub(crate) async fn a_key_belongs_to_its_owner(store: impl TaskStore) {
    for owner in ["owner", "assignee", "other"] {
        assert!(is_new(
            &insert(&store, &created(owner, "x", 0), &key("k", "b")).await
        ));
    }
}

pub(crate) async fn of_parallel_inserts_with_one_key_one_is_kept(store: impl TaskStore) {
    one_is_kept_of_parallel_inserts_at(0, store).await;
}

pub(crate) async fn of_parallel_inserts_over_an_expired_key_one_is_kept(store: impl TaskStore) {
    insert(&store, &created("owner", "old", -DAY), &key("k", "b")).await;
    one_is_kept_of_parallel_inserts_at(0, store).await;
}

async fn one_is_kept_of_parallel_inserts_at(ms: i64, store: impl TaskStore) {
    const WRITERS: usize = 32;
    let before = all_pending(&store).await.len();
    let store = Arc::new(store);
    let writers = (0..WRITERS).map(|n| {
        let store = store.clone();
        tokio::spawn(async move {
            let (task, event) = created("owner", &n.to_string(), ms);
            match insert(store.as_ref(), &(task.clone(), event), &key("k", "b")).await {
                Once::New(_) => (true, task),
                Once::Before(first) => (false, first),
                other => panic!("{other:?}"),
            }
        })
    });
    let mut answers = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        answers.push(writer.await.unwrap());
    }
    assert_eq!(answers.iter().filter(|(new, _)| *new).count(), 1);
    assert!(answers.iter().all(|(_, task)| *task == answers[0].1));
    assert_eq!(all_pending(store.as_ref()).await.len(), before + 1);
}

pub(crate) async fn a_key_is_free_again_after_its_lifetime(store: impl TaskStore) {
    let key = key("k", "b");
    let first = created("owner", "first", 0);
    insert(&store, &first, &key).await;
    let late = insert(&store, &created("owner", "late", DAY - 1), &key).await;
    assert_eq!(late, Once::Before(first.0.clone()));

    let second = created("owner", "second", DAY);
    assert!(is_new(&insert(&store, &second, &key).await));
    let again = insert(&store, &created("owner", "again", DAY + 1), &key).await;
    assert_eq!(again, Once::Before(second.0));
    assert_eq!(store.get(&first.0.id).await.unwrap(), Some(first.0));
}

pub(crate) async fn only_old_keys_are_forgotten(store: impl TaskStore) {
    let (old, young) = (created("owner", "old", 0), created("owner", "young", 10));
    insert(&store, &old, &key("old", "b")).await;
    insert(&store, &young, &key("young", "b")).await;
    assert_eq!(store.forget_keys(at(0)).await.unwrap(), 0);
    assert_eq!(store.forget_keys(at(10)).await.unwrap(), 1);
    assert_eq!(store.forget_keys(at(10)).await.unwrap(), 0);
    assert!(is_new(
        &insert(&store, &created("owner", "x", 11), &key("old", "b")).await
    ));
    let kept = insert(&store, &created("owner", "x", 11), &key("young", "b")).await;
    assert_eq!(kept, Once::Before(young.0));
    assert_eq!(store.get(&old.0.id).await.unwrap(), Some(old.0));
    assert_eq!(LIFETIME, Duration::from_millis(DAY as u64));
}
