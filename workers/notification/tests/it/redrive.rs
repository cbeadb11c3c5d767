//! The `redrive` command moves dead letters back, and may be repeated.

use contract::event::EventType;
use events::bus::Bus;
use notifications::store::Expected;
use testkit::{Process, eventually};

use crate::fixture::{Fixture, SOON, Task, drain};

/// Runs the command and returns the lines that it printed.
async fn redrive(fixture: &Fixture, arguments: &[&str]) -> Vec<String> {
    let mut command = Process::named("redrive")
        .program(env!("CARGO_BIN_EXE_notification-worker"))
        .arg("redrive")
        .args(arguments)
        .env("AMQP_URL", fixture.amqp_url())
        .start();
    let status = command.wait(SOON).await;
    assert!(status.success(), "{}", command.log());
    command.log().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn what_was_put_aside_is_applied_once_after_a_redrive_and_poison_is_put_aside_again() {
    let fixture = Fixture::new().await;
    let (consumer, mut from) = (fixture.consumer().await, fixture.subscribe().await);
    let task = Task::new();
    fixture.publish(&[task.event(1), task.event(2)]).await;
    fixture
        .publish_raw(EventType::TaskDeleted, b"poison\n")
        .await;
    let mut held = Vec::new();
    while held.len() < 3 {
        held.extend(from.next_batch(3).await.expect("the bus is there"));
    }
    for delivery in &held {
        let put_aside = from.dead_letter(delivery, "a version that is gone");
        put_aside.await.expect("the bus is there");
    }

    let look = redrive(&fixture, &["--dry-run"]).await;
    assert_eq!(look.len(), 4, "{look:?}");
    assert_eq!(look[3], "would move 3, passed over 0");
    // The broker counts returned messages a moment later.
    let bus = fixture.bus();
    let there = async |count| {
        let counted = async || bus.dead_letters().await.is_ok_and(|now| now == count);
        eventually(SOON, counted).await;
    };
    there(3).await;
    let id = task.event(1).id;
    let shown = |line: &&String| line.contains(&id) && line.contains("a version that is gone");
    assert!(look.iter().any(|line| shown(&line)), "{look:?}");
    let some = redrive(&fixture, &["--event-type", "task.created.v1"]).await;
    assert!(some[1].starts_with("moved 1, passed over 2"), "{some:?}");
    there(2).await;
    let rest = redrive(&fixture, &["--limit", "10"]).await;
    assert!(rest[2].starts_with("moved 2, passed over 0"), "{rest:?}");

    let step = drain(&consumer, from.as_mut(), 3).await;
    assert_eq!((step.applied, step.dead_lettered), (2, 1));
    let again = redrive(&fixture, &[]).await;
    assert!(again[1].starts_with("moved 1,"), "{again:?}");
    let step = drain(&consumer, from.as_mut(), 1).await;
    assert_eq!((step.applied, step.dead_lettered), (0, 1));
    let counter = fixture.store().await.counter(&task.owner).await;
    assert_eq!(counter.expect("the store is there").unread, 2);
    assert_eq!(fixture.dead_letters().await.len(), 1);
}

#[tokio::test]
async fn what_was_told_and_deleted_is_not_told_again_by_a_redrive() {
    let fixture = Fixture::new().await;
    let (consumer, mut from) = (fixture.consumer().await, fixture.subscribe().await);
    let task = Task::new();
    fixture.publish(&[task.event(1)]).await;
    drain(&consumer, from.as_mut(), 1).await;
    let store = fixture.store().await;
    let found = store.since(&task.owner, 0, 10).await.expect("it is there");
    store
        .delete(&task.owner, &found[0].content.id, Expected::ANY)
        .await
        .expect("it is there");

    fixture.publish(&[task.event(1)]).await;
    let twice = from.next_batch(1).await.expect("the bus is there");
    let put_aside = from.dead_letter(&twice[0], "by mistake");
    put_aside.await.expect("the bus is there");
    redrive(&fixture, &[]).await;
    let step = drain(&consumer, from.as_mut(), 1).await;
    assert_eq!((step.applied, step.duplicates), (0, 1));
    let found = store.since(&task.owner, 0, 10).await.expect("it is there");
    assert!(found.is_empty());
}
