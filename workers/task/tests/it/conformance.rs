//! The conformance suite of `TaskStore`: one test per fact and adapter.

mod erasures;
mod idempotency;
mod lists;

pub(crate) use self::erasures::*;
pub(crate) use self::idempotency::*;
pub(crate) use self::lists::*;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use contract::event::Envelope;
use contract::id::UserId;
use contract::page::{PageRequest, decode};
use events::outbox::{Backlog, Pending};
use jiff::Timestamp;
use stores::Once;
use tasks::domain::{Change, NewTask, Priority, Status, Task};
use tasks::store::{Filter, Sort, TaskStore, WriteOutcome};

/// Makes one test of each fact. `$fresh` is an `async fn() -> impl TaskStore` that returns an empty store.
macro_rules! task_store_conformance {
    ($fresh:path) => {
        crate::conformance::task_store_conformance!($fresh:
            a_task_is_kept_as_it_is_with_its_event
            a_change_is_kept_with_its_event_behind_the_earlier_ones
            a_change_of_another_version_writes_nothing
            of_parallel_changes_each_version_has_one_winner_and_one_event
            a_deleted_task_is_gone_but_its_events_are_not
            a_list_shows_what_one_owns_or_is_assigned_newest_first
            a_list_filters
            a_list_finds_what_is_due_in_a_time
            a_list_finds_words_as_they_are_in_upper_or_lower_case
            every_order_is_kept_through_pages_of_any_size
            pages_neither_repeat_nor_miss_while_tasks_come_and_go
            young_events_are_left_to_the_fast_path
            the_oldest_subjects_come_first_and_each_from_its_oldest_event
            marking_removes_exactly_what_was_published_and_may_be_repeated
            the_history_is_whole_before_during_and_after_publishing
            only_tombstones_without_events_are_purged
            preparing_twice_is_harmless
            a_key_gives_its_first_task_whatever_has_become_of_it
            a_key_that_was_used_for_another_body_writes_nothing
            a_key_belongs_to_its_owner
            of_parallel_inserts_with_one_key_one_is_kept
            a_key_is_free_again_after_its_lifetime
            of_parallel_inserts_over_an_expired_key_one_is_kept
            only_old_keys_are_forgotten
            an_erasure_is_noted_once_and_left_alone_until_it_is_settled
            of_parallel_notes_of_a_user_one_is_new
            the_erasure_that_has_been_due_for_longest_comes_first
            an_erasure_that_another_worker_settled_is_left_alone
        );
    };
    ($fresh:path: $($fact:ident)*) => {$(
        #[tokio::test]
        async fn $fact() {
            crate::conformance::$fact($fresh().await).await;
        }
    )*};
}
pub(crate) use task_store_conformance;

pub(crate) fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

pub(crate) fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + ms).unwrap()
}

pub(crate) fn new(title: &str) -> NewTask {
    NewTask {
        title: title.to_owned(),
        description: "ö\n\"'$.\0".replace('\0', ""),
        status: Status::Todo,
        priority: Priority::Normal,
        due_at: Some(at(5)),
        tags: vec!["a".into(), "b".into()],
        assignee_id: Some(user("assignee")),
    }
}

/// Stores a task of `owner`, with its event unpublished.
pub(crate) async fn insert(store: &impl TaskStore, owner: &str, new: NewTask, ms: i64) -> Task {
    let (task, event) = Task::create(user(owner), new, at(ms));
    let inserted = store.insert(&task, &event, None).await.unwrap();
    assert_eq!(inserted, Once::New(vec![Pending { version: 1, event }]));
    task
}

pub(crate) fn retitled(task: &Task, title: &str, ms: i64) -> (Task, Envelope) {
    let change = Change {
        title: Some(title.to_owned()),
        ..Change::default()
    };
    task.change(change, &user("assignee"), at(ms))
        .unwrap()
        .unwrap()
}

fn first_page<K>(limit: usize) -> PageRequest<K> {
    PageRequest { limit, after: None }
}

async fn all_pending(store: &impl TaskStore) -> Vec<Pending> {
    store.pending(Timestamp::MAX, 1_000).await.unwrap()
}

fn ids(pending: &[Pending]) -> Vec<&str> {
    pending
        .iter()
        .map(|pending| pending.event.id.as_str())
        .collect()
}

async fn titles(store: &impl TaskStore, filter: Filter) -> Vec<String> {
    let page = store
        .list(&filter, Sort::default(), &first_page(100))
        .await
        .unwrap();
    page.items.into_iter().map(|task| task.title).collect()
}

pub(crate) async fn a_task_is_kept_as_it_is_with_its_event(store: impl TaskStore) {
    let (task, event) = Task::create(user("owner"), new("x"), at(0));
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let event = event.traced(Some(trace));
    store.insert(&task, &event, None).await.unwrap();
    assert_eq!(store.get(&task.id).await.unwrap(), Some(task));
    assert_eq!(all_pending(&store).await, [Pending { version: 1, event }]);
}

pub(crate) async fn a_change_is_kept_with_its_event_behind_the_earlier_ones(store: impl TaskStore) {
    let first = insert(&store, "owner", new("x"), 0).await;
    let (second, event) = retitled(&first, "y", 1);
    let WriteOutcome::Done(pending) = store.update(&second, &event).await.unwrap() else {
        panic!()
    };
    assert_eq!(
        pending
            .iter()
            .map(|pending| pending.version)
            .collect::<Vec<_>>(),
        [1, 2]
    );
    assert_eq!(pending[1].event, event);
    assert_eq!(store.get(&first.id).await.unwrap(), Some(second.clone()));

    store.mark_published(&pending).await.unwrap();
    let (third, event) = retitled(&second, "z", 2);
    let WriteOutcome::Done(pending) = store.update(&third, &event).await.unwrap() else {
        panic!()
    };
    assert_eq!(pending, [Pending { version: 3, event }]);
}

pub(crate) async fn a_change_of_another_version_writes_nothing(store: impl TaskStore) {
    let first = insert(&store, "owner", new("x"), 0).await;
    let (second, event) = retitled(&first, "y", 1);
    let (other, other_event) = retitled(&first, "other", 1);
    store.update(&second, &event).await.unwrap();
    assert_eq!(
        store.update(&other, &other_event).await.unwrap(),
        WriteOutcome::Stale
    );
    assert_eq!(
        store.delete(&other, &other_event).await.unwrap(),
        WriteOutcome::Stale
    );
    assert_eq!(store.get(&first.id).await.unwrap(), Some(second));
    assert_eq!(all_pending(&store).await.len(), 2);

    let (unknown, event) = retitled(&Task::create(user("owner"), new("x"), at(0)).0, "y", 1);
    assert_eq!(
        store.update(&unknown, &event).await.unwrap(),
        WriteOutcome::Stale
    );
}

pub(crate) async fn of_parallel_changes_each_version_has_one_winner_and_one_event(
    store: impl TaskStore,
) {
    const WRITERS: usize = 8;
    let task = insert(&store, "owner", new("x"), 0).await;
    let store = Arc::new(store);
    let writers = (0..WRITERS).map(|n| {
        let (store, id) = (store.clone(), task.id.clone());
        tokio::spawn(async move {
            loop {
                let current = store.get(&id).await.unwrap().unwrap();
                let (next, event) = retitled(&current, &format!("by {n}"), 1);
                if let WriteOutcome::Done(_) = store.update(&next, &event).await.unwrap() {
                    return next.version;
                }
            }
        })
    });
    let mut versions = BTreeSet::new();
    for writer in writers.collect::<Vec<_>>() {
        versions.insert(writer.await.unwrap());
    }
    assert_eq!(versions, (2..=WRITERS as u64 + 1).collect());
    let pending = all_pending(store.as_ref()).await;
    assert!(
        pending
            .iter()
            .map(|pending| pending.version)
            .eq(1..=WRITERS as u64 + 1)
    );
    assert!(
        pending
            .windows(2)
            .all(|pair| pair[0].event.time < pair[1].event.time)
    );
}

pub(crate) async fn a_deleted_task_is_gone_but_its_events_are_not(store: impl TaskStore) {
    let task = insert(&store, "owner", new("x"), 0).await;
    let (gone, event) = task.delete(&user("owner"), at(1)).unwrap();
    let WriteOutcome::Done(pending) = store.delete(&gone, &event).await.unwrap() else {
        panic!()
    };
    assert_eq!(pending.last(), Some(&Pending { version: 2, event }));
    assert_eq!(store.get(&task.id).await.unwrap(), None);
    assert!(titles(&store, Filter::of(user("owner"))).await.is_empty());
    assert!(
        titles(&store, Filter::of(user("assignee")))
            .await
            .is_empty()
    );
    assert_eq!(all_pending(&store).await, pending);

    let (after, event) = retitled(&gone, "y", 2);
    assert_eq!(
        store.update(&after, &event).await.unwrap(),
        WriteOutcome::Stale
    );
    assert_eq!(
        store.delete(&after, &event).await.unwrap(),
        WriteOutcome::Stale
    );
}

pub(crate) async fn young_events_are_left_to_the_fast_path(store: impl TaskStore) {
    let old = insert(&store, "owner", new("old"), 0).await;
    let young = insert(&store, "owner", new("young"), 5_000).await;
    let pending = store.pending(at(3_000), 10).await.unwrap();
    assert_eq!(ids(&pending), [format!("{}:1", old.id)]);
    assert_eq!(
        store.backlog().await.unwrap(),
        Backlog {
            subjects: 2,
            oldest: Some(at(0))
        }
    );
    let later = store.pending(at(5_000), 10).await.unwrap();
    assert_eq!(
        ids(&later),
        [format!("{}:1", old.id), format!("{}:1", young.id)]
    );
}

pub(crate) async fn the_oldest_subjects_come_first_and_each_from_its_oldest_event(
    store: impl TaskStore,
) {
    let second = insert(&store, "owner", new("b"), 20).await;
    let first = insert(&store, "owner", new("a"), 10).await;
    for task in [&second, &first] {
        let (next, event) = retitled(task, "x", 30);
        store.update(&next, &event).await.unwrap();
    }
    let event = |task: &Task, version: u64| format!("{}:{version}", task.id);
    let three = store.pending(Timestamp::MAX, 3).await.unwrap();
    assert_eq!(
        ids(&three),
        [event(&first, 1), event(&first, 2), event(&second, 1)]
    );
}

pub(crate) async fn marking_removes_exactly_what_was_published_and_may_be_repeated(
    store: impl TaskStore,
) {
    assert_eq!(store.backlog().await.unwrap(), Backlog::default());
    let task = insert(&store, "owner", new("x"), 0).await;
    let published = all_pending(&store).await;
    let (next, event) = retitled(&task, "y", 1);
    store.update(&next, &event).await.unwrap();
    for _ in 0..2 {
        store.mark_published(&published).await.unwrap();
        assert_eq!(ids(&all_pending(&store).await), [format!("{}:2", task.id)]);
    }
    // Some were marked already and some were not, as after a crash in between.
    let rest = all_pending(&store).await;
    store
        .mark_published(&[published, rest].concat())
        .await
        .unwrap();
    assert!(all_pending(&store).await.is_empty());
    assert_eq!(store.get(&task.id).await.unwrap(), Some(next));
}

pub(crate) async fn the_history_is_whole_before_during_and_after_publishing(store: impl TaskStore) {
    let mut task = insert(&store, "owner", new("1"), 1).await;
    for version in 2..=12 {
        let (next, event) = retitled(&task, &version.to_string(), version);
        store.update(&next, &event).await.unwrap();
        task = next;
    }
    insert(&store, "owner", new("another"), 0).await;
    for published in [0, 5, 12] {
        let pending = store.pending(Timestamp::MAX, 100).await.unwrap();
        let of_task = pending
            .into_iter()
            .filter(|pending| pending.event.subject == task.id.as_str());
        let marked: Vec<_> = of_task
            .filter(|pending| pending.version <= published)
            .collect();
        if !marked.is_empty() {
            store.mark_published(&marked).await.unwrap();
        }
        let mut seen = Vec::new();
        let mut page = first_page(5);
        loop {
            let found = store.history(&task.id, &page).await.unwrap();
            seen.extend(found.items.into_iter().map(|event| event.id));
            let Some(cursor) = found.next_cursor else {
                break;
            };
            page.after = Some(decode(&cursor).unwrap());
        }
        let wanted: Vec<_> = (1..=12)
            .map(|version| format!("{}:{version}", task.id))
            .collect();
        assert_eq!(seen, wanted, "{published} published");
    }
}

pub(crate) async fn only_tombstones_without_events_are_purged(store: impl TaskStore) {
    insert(&store, "owner", new("alive"), 0).await;
    let task = insert(&store, "owner", new("x"), 0).await;
    let (gone, event) = task.delete(&user("owner"), at(10)).unwrap();
    store.delete(&gone, &event).await.unwrap();
    let later = at(0) + Duration::from_secs(3600);
    assert_eq!(store.purge(later).await.unwrap(), 0);
    store
        .mark_published(&all_pending(&store).await)
        .await
        .unwrap();
    assert_eq!(store.purge(at(10)).await.unwrap(), 0);
    assert_eq!(store.purge(later).await.unwrap(), 1);
    assert_eq!(store.purge(later).await.unwrap(), 0);
}

pub(crate) async fn preparing_twice_is_harmless(store: impl TaskStore) {
    store.prepare().await.unwrap();
    store.prepare().await.unwrap();
    store.ping().await.unwrap();
}
