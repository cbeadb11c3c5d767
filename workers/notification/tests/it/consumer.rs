//! Every event from the queues is applied once, whatever fails.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use contract::event::EventType;
use contract::id::UserId;
use contract::page::PageRequest;
use notifications::domain::{Event, TaskEvent, TaskNotifications};
use notifications::store::{Filter, NotificationStore, Outcome};
use runtime::supervise::CancellationToken;
use serde_json::json;
use testkit::{MongoDb, eventually};

use crate::fixture::{Fixture, SOON, Task, deleted, drain, events, left};

#[tokio::test]
async fn an_event_that_is_delivered_twice_is_applied_once() {
    let fixture = Fixture::new().await;
    let (consumer, mut from) = (fixture.consumer().await, fixture.subscribe().await);
    let task = Task::new();
    fixture.publish(&[task.event(1), task.event(1)]).await;
    fixture.publish(&[task.event(1), task.event(2)]).await;
    let step = drain(&consumer, from.as_mut(), 4).await;
    assert_eq!((step.applied, step.duplicates), (2, 2));
    let counter = fixture.store().await.counter(&task.owner).await.unwrap();
    assert_eq!((counter.sequence, counter.unread), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_consumers_in_parallel_apply_each_event_once() {
    const EVENTS: u64 = 150;
    let fixture = Fixture::new().await;
    let owner = UserId::new();
    let (first, second) = (Task::of(&owner), Task::of(&owner));
    for _ in 0..2 {
        fixture.publish(&events(&first, 1..=EVENTS)).await;
        fixture.publish(&events(&second, 1..=EVENTS)).await;
    }
    let applied = drain_both(&fixture, 4 * EVENTS as usize).await;
    assert_eq!(applied, 2 * EVENTS as usize);
    let store = fixture.store().await;
    let counter = store.counter(&owner).await.unwrap();
    assert_eq!((counter.sequence, counter.unread), (2 * EVENTS, 2 * EVENTS));
    let kept = store.since(&owner, 0, 10_000).await.unwrap();
    let facts: BTreeSet<_> = kept
        .iter()
        .map(|n| (n.content.task_id.as_str(), n.content.task_version))
        .collect();
    assert_eq!(
        (kept.len(), facts.len()),
        (2 * EVENTS as usize, 2 * EVENTS as usize)
    );
}

/// Two consumers share the queues, in any way, until `total` deliveries are settled. Returns how many
/// were applied.
async fn drain_both(fixture: &Fixture, total: usize) -> usize {
    let ended = AtomicUsize::new(0);
    let done = CancellationToken::new();
    let work = async || {
        let (consumer, mut from) = (fixture.consumer().await, fixture.subscribe().await);
        let mut applied = 0;
        while !done.is_cancelled() {
            let step = consumer.consume_once(from.as_mut(), &done).await;
            let step = step.expect("the bus is there");
            applied += step.applied;
            let count = step.applied + step.duplicates;
            if ended.fetch_add(count, Ordering::Relaxed) + count == total {
                done.cancel();
            }
        }
        applied
    };
    let both = async { tokio::join!(work(), work()) };
    let (by_one, by_two) = tokio::time::timeout(SOON, both)
        .await
        .expect("drained within 30 s");
    by_one + by_two
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_is_deleted_in_a_storm_is_told_nothing_and_everybody_else_everything() {
    const EVENTS: u64 = 150;
    let fixture = Fixture::new().await;
    let mut task = Task::new();
    let (leaver, reader) = (task.owner.clone(), UserId::new());
    task.assignee = Some(reader.clone());
    task.actor = UserId::new();
    for _ in 0..2 {
        fixture.publish(&events(&task, 1..=EVENTS / 2)).await;
        fixture.publish(&[deleted(&leaver)]).await;
        fixture
            .publish(&events(&task, EVENTS / 2 + 1..=EVENTS))
            .await;
    }
    let applied = drain_both(&fixture, 2 * (EVENTS as usize + 1)).await;
    assert_eq!(applied, EVENTS as usize + 1);
    let (store, database) = (fixture.store().await, fixture.database().await);
    while store.forget(500).await.unwrap() {}
    assert_eq!(left(&database, &leaver).await, 0);
    assert_eq!(store.counter(&leaver).await.unwrap().unread, 0);
    let kept = store.since(&reader, 0, 10_000).await.unwrap();
    let versions: BTreeSet<_> = kept.iter().map(|n| n.content.task_version).collect();
    assert_eq!(versions, (1..=EVENTS).collect());
    assert_eq!(kept.len(), EVENTS as usize);
    assert_eq!(store.counter(&reader).await.unwrap().unread, EVENTS);
    assert!(fixture.dead_letters().await.is_empty());
}

#[tokio::test]
async fn a_worker_that_is_killed_while_it_forgets_keeps_nobody_waiting_and_goes_on() {
    const ALL: u64 = 20_000;
    let fixture = Fixture::new().await;
    let (store, database) = (fixture.store().await, fixture.database().await);
    let mut task = Task::new();
    task.actor = UserId::new();
    let (leaver, other) = (task.owner.clone(), Task::new());
    store
        .apply(&[task.store_event(1)], task.born)
        .await
        .unwrap();
    fixture.multiply(&leaver, ALL.cast_signed()).await;
    let mut worker = fixture.process();
    fixture.publish(&[other.event(1)]).await;
    applied(&store, &other.owner, 1).await;

    fixture.publish(&[deleted(&leaver), other.event(2)]).await;
    applied(&store, &other.owner, 2).await;
    eventually(SOON, async || left(&database, &leaver).await < ALL).await;
    // Other users get their notifications while it removes this account.
    fixture.publish(&[task.event(2), other.event(3)]).await;
    applied(&store, &other.owner, 3).await;
    worker.kill9();
    let some = left(&database, &leaver).await;
    assert!(
        some > 0,
        "all {ALL} were removed before another event was applied"
    );
    let counter = store.counter(&leaver).await.unwrap();
    assert_eq!((counter.unread, counter.deleted), (0, true));

    // Events that waited, or that arrive late, bring nothing back.
    fixture.publish(&[task.event(3), deleted(&leaver)]).await;
    worker.start_again();
    eventually(SOON, async || left(&database, &leaver).await == 0).await;
    fixture.publish(&[task.event(4), other.event(4)]).await;
    applied(&store, &other.owner, 4).await;
    while store.forget(500).await.unwrap() {}
    assert_eq!(left(&database, &leaver).await, 0);
    assert_eq!(store.counter(&other.owner).await.unwrap().unread, 4);
    assert!(fixture.dead_letters().await.is_empty());
}

#[tokio::test]
async fn a_consumer_that_died_between_commit_and_acknowledgement_leaves_no_second_notification() {
    let fixture = Fixture::new().await;
    let store = fixture.store().await;
    let task = Task::new();
    fixture.publish(&[task.event(1)]).await;
    let mut dies = fixture.subscribe().await;
    let batch = dies.next_batch(10).await.unwrap();
    let event = TaskEvent::parse(&batch[0].body, EventType::TaskCreated).unwrap();
    let outcomes = store
        .apply(
            &[Event::Task(TaskNotifications::new(&event, event.time))],
            event.time,
        )
        .await
        .unwrap();
    assert_eq!(outcomes, [Outcome::Applied]);
    drop(dies);

    let (consumer, mut from) = (fixture.consumer().await, fixture.subscribe().await);
    let step = drain(&consumer, from.as_mut(), 1).await;
    assert_eq!((step.applied, step.duplicates), (0, 1));
    assert_eq!(store.counter(&task.owner).await.unwrap().unread, 1);
}

#[tokio::test]
async fn a_worker_that_is_killed_again_and_again_applies_each_event_once() {
    const EVENTS: u64 = 2_000;
    let fixture = Fixture::new().await;
    let store = fixture.store().await;
    let task = Task::new();
    fixture.publish(&events(&task, 1..=EVENTS)).await;
    let mut worker = fixture.process();
    for kill_at in [1, 500, 1_000, 1_500] {
        applied(&store, &task.owner, kill_at).await;
        worker.kill9();
        worker.start_again();
    }
    applied(&store, &task.owner, EVENTS).await;
    // An event applied twice would give a higher number, now or after one more event.
    fixture.publish(&[task.event(EVENTS + 1)]).await;
    applied(&store, &task.owner, EVENTS + 1).await;
    let counter = store.counter(&task.owner).await.unwrap();
    assert_eq!((counter.sequence, counter.unread), (EVENTS + 1, EVENTS + 1));
    let kept = store.since(&task.owner, 0, 10_000).await.unwrap();
    let versions: BTreeSet<_> = kept.iter().map(|n| n.content.task_version).collect();
    assert_eq!(
        (kept.len(), versions),
        (counter.sequence as usize, (1..=EVENTS + 1).collect())
    );
    assert!(fixture.dead_letters().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_died_in_a_transaction_blocks_nobody_for_long() {
    let fixture = Fixture::new().await;
    let (consumer, mut from) = (fixture.consumer().await, fixture.subscribe().await);
    let (task, other) = (Task::new(), Task::new());
    fixture.publish(&[task.event(1)]).await;
    drain(&consumer, from.as_mut(), 1).await;
    fixture.die_in_the_middle(&task.owner).await;
    fixture.publish(&[task.event(2), other.event(1)]).await;
    // Without our help, the server would end the transaction after a minute.
    let step = drain(&consumer, from.as_mut(), 2).await;
    assert_eq!((step.applied, step.duplicates), (2, 0));
    let counter = fixture.store().await.counter(&task.owner).await.unwrap();
    assert_eq!((counter.sequence, counter.unread), (2, 2));
}

/// Waits until a user has had at least `count` notifications.
async fn applied(store: &Arc<dyn NotificationStore>, user: &UserId, count: u64) {
    eventually(SOON, async || {
        let counter = store
            .counter(user)
            .await
            .map_err(|error| error.to_string())?;
        (counter.sequence >= count)
            .then_some(())
            .ok_or(format!("{counter:?}"))
    })
    .await;
}

#[tokio::test]
async fn versions_that_arrive_late_are_listed_in_their_place() {
    let fixture = Fixture::new().await;
    let (consumer, mut from) = (fixture.consumer().await, fixture.subscribe().await);
    let task = Task::new();
    for version in [3, 1, 4, 2] {
        fixture.publish(&[task.event(version)]).await;
        drain(&consumer, from.as_mut(), 1).await;
    }
    let page = PageRequest {
        limit: 10,
        after: None,
    };
    let store = fixture.store().await;
    let found = store
        .list(&task.owner, Filter::default(), &page)
        .await
        .unwrap();
    let versions: Vec<_> = found.iter().map(|n| n.content.task_version).collect();
    assert_eq!(versions, [4, 3, 2, 1]);
}

#[tokio::test]
async fn poison_goes_to_the_dead_letters_with_its_reason_and_blocks_nothing() {
    let fixture = Fixture::new().await;
    let (consumer, mut from) = (fixture.consumer().await, fixture.subscribe().await);
    let task = Task::new();
    let mut newer = serde_json::to_value(task.event(1)).unwrap();
    newer["type"] = json!("task.created.v2");
    fixture
        .publish_raw(EventType::TaskCreated, b"\xff not JSON")
        .await;
    fixture
        .publish_raw(EventType::TaskCreated, newer.to_string().as_bytes())
        .await;
    fixture
        .publish_raw(EventType::TaskCreated, &vec![b' '; 300 << 10])
        .await;
    let mut somebody_else = serde_json::to_value(deleted(&task.owner)).unwrap();
    somebody_else["data"]["user_id"] = json!(UserId::new());
    fixture
        .publish_raw(EventType::UserDeleted, somebody_else.to_string().as_bytes())
        .await;
    fixture.publish(&[task.event(1)]).await;

    let step = drain(&consumer, from.as_mut(), 5).await;
    assert_eq!((step.applied, step.dead_lettered), (1, 4));
    assert_eq!(
        fixture
            .store()
            .await
            .counter(&task.owner)
            .await
            .unwrap()
            .unread,
        1
    );
    let letters = fixture.dead_letters().await;
    let mut reasons: Vec<_> = letters
        .iter()
        .map(|letter| {
            letter["properties"]["headers"]["x-reason"]
                .as_str()
                .unwrap()
        })
        .collect();
    reasons.sort_unstable();
    assert_eq!(reasons.len(), 4);
    assert!(reasons[0].starts_with("it has 307200 bytes"), "{reasons:?}");
    assert!(reasons[1].contains("expected value"), "{reasons:?}");
    assert!(reasons[2].contains("task.created.v2"), "{reasons:?}");
    assert_eq!(reasons[3], "its id, subject and data do not agree");
}

#[tokio::test]
async fn an_event_that_the_store_cannot_digest_is_put_aside_alone() {
    let fixture = Fixture::new().await;
    let (consumer, mut from) = (fixture.consumer().await, fixture.subscribe().await);
    let (good, bad) = (Task::new(), Task::new());
    fixture.break_counter(&bad.owner).await;
    fixture.publish(&[good.event(1), bad.event(1)]).await;
    fixture.publish(&events(&good, 2..=5)).await;

    let step = drain(&consumer, from.as_mut(), 6).await;
    assert_eq!((step.applied, step.dead_lettered), (5, 1));
    assert_eq!(
        fixture
            .store()
            .await
            .counter(&good.owner)
            .await
            .unwrap()
            .unread,
        5
    );
    let letters = fixture.dead_letters().await;
    let reason = &letters[0]["properties"]["headers"]["x-reason"];
    assert!(
        reason.as_str().unwrap().starts_with("unreadable data"),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_outage_of_the_store_loses_or_dead_letters_an_event() {
    let mut mongodb = MongoDb::start().await;
    let fixture = Fixture::on(&mongodb.url()).await;
    let worker = fixture.worker().await;
    let task = Task::new();
    let user = worker.http.as_user(task.owner.as_str());
    let ready = async |wanted: u16| {
        eventually(SOON, async || {
            let reply = worker.http.unsigned().get("/readyz").try_send().await;
            reply.is_ok_and(|reply| reply.status == wanted)
        })
        .await;
    };
    let unread = async |wanted: u64| {
        eventually(SOON, async || {
            let reply = user.get("/api/notifications/unread-count").send().await;
            match reply.status.as_u16() {
                200 if reply.json() == json!({"count": wanted}) => Ok(()),
                _ => Err(reply.text()),
            }
        })
        .await;
    };
    fixture.publish(&events(&task, 1..=10)).await;
    unread(10).await;

    // The server hangs: calls neither fail nor return.
    mongodb.pause();
    fixture.publish(&events(&task, 11..=200)).await;
    ready(503).await;
    user.get("/api/notifications").send().await.expect(503);
    mongodb.resume();
    unread(200).await;

    // The server dies, and returns with everything it acknowledged.
    mongodb.kill();
    fixture.publish(&events(&task, 201..=400)).await;
    ready(503).await;
    mongodb.restart().await;
    unread(400).await;
    ready(200).await;

    let mut versions = BTreeSet::new();
    let store = fixture.store().await;
    for found in store.since(&task.owner, 0, 10_000).await.unwrap() {
        assert!(
            versions.insert(found.content.task_version),
            "{found:?} is there twice"
        );
    }
    assert_eq!(versions, (1..=400).collect());
    assert!(fixture.dead_letters().await.is_empty());
}
