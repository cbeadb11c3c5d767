use std::time::Duration;

use contract::event::EventType;
use events::bus::Delivery;
use events::bus::conformance::{TASK_QUEUES, TASK_USER_DELETED, event, topology};
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

fn open(folder: &TempDir) -> EmbeddedBus {
    EmbeddedBus::open(&folder.path().join("events.db"), topology()).unwrap()
}

/// A bus whose folder is removed at once. The open file stays until it is closed.
async fn fresh() -> EmbeddedBus {
    open(&TempDir::new().unwrap())
}

events::bus_conformance!(fresh);

fn created(versions: std::ops::RangeInclusive<u64>) -> Vec<Envelope> {
    versions
        .map(|version| event(EventType::TaskCreated, "t", version))
        .collect()
}

fn ids(deliveries: &[Delivery]) -> Vec<String> {
    let id = |delivery: &Delivery| {
        serde_json::from_slice::<Envelope>(&delivery.body)
            .unwrap()
            .id
    };
    deliveries.iter().map(id).collect()
}

#[tokio::test]
async fn what_was_confirmed_is_delivered_after_the_file_is_opened_again() {
    let folder = TempDir::new().unwrap();
    let bus = open(&folder);
    bus.publish(&created(1..=3)).await.unwrap();
    let mut subscription = bus.subscribe(&TASK_QUEUES, 10).await.unwrap();
    let first = subscription.next_batch(1).await.unwrap();
    subscription.ack(&first).await.unwrap();
    subscription.next_batch(1).await.unwrap();
    drop((subscription, bus));

    let bus = open(&folder);
    let mut subscription = bus.subscribe(&TASK_QUEUES, 10).await.unwrap();
    assert_eq!(
        ids(&subscription.next_batch(10).await.unwrap()),
        ["t:2", "t:3"]
    );
}

#[tokio::test]
async fn each_message_goes_to_one_of_those_who_share_a_queue() {
    let bus = fresh().await;
    bus.publish(&created(1..=5)).await.unwrap();
    let mut one = bus.subscribe(&TASK_QUEUES, 3).await.unwrap();
    let mut other = bus.subscribe(&TASK_QUEUES, 3).await.unwrap();
    assert_eq!(
        ids(&one.next_batch(10).await.unwrap()),
        ["t:1", "t:2", "t:3"]
    );
    let held = other.next_batch(10).await.unwrap();
    assert_eq!(ids(&held), ["t:4", "t:5"]);
    // A message that one of them puts back goes to the other.
    drop(one);
    assert_eq!(ids(&other.next_batch(10).await.unwrap()), ["t:1"]);
    other.ack(&held).await.unwrap();
    assert_eq!(ids(&other.next_batch(10).await.unwrap()), ["t:2", "t:3"]);
}

#[tokio::test]
async fn who_waits_is_woken_by_what_arrives() {
    let bus = fresh().await;
    let mut subscription = bus.subscribe(&TASK_QUEUES, 10).await.unwrap();
    let waiting = tokio::spawn(async move { subscription.next_batch(10).await.unwrap() });
    bus.publish(&created(1..=1)).await.unwrap();
    let woken = timeout(Duration::from_secs(20), waiting).await;
    assert_eq!(ids(&woken.unwrap().unwrap()), ["t:1"]);
}

#[tokio::test]
async fn a_full_bus_confirms_nothing_until_there_is_room() {
    let bus = fresh().await.with_max_messages(3);
    let outcomes = bus.publish(&created(1..=5)).await.unwrap();
    let confirmed = |outcome: &PublishOutcome| *outcome == PublishOutcome::Confirmed;
    assert_eq!(outcomes.iter().filter(|one| confirmed(one)).count(), 3);
    assert!(matches!(&outcomes[4], PublishOutcome::Failed(why) if why.contains("full")));
    let mut subscription = bus.subscribe(&TASK_QUEUES, 10).await.unwrap();
    let all = subscription.next_batch(10).await.unwrap();
    assert_eq!(ids(&all), ["t:1", "t:2", "t:3"]);
    subscription.ack(&all).await.unwrap();
    let outcomes = bus.publish(&created(4..=5)).await.unwrap();
    assert!(outcomes.iter().all(confirmed));
}

#[tokio::test]
async fn an_event_goes_into_every_queue_of_its_type_and_a_dead_letter_is_kept() {
    let bus = fresh().await;
    let gone = event(EventType::UserDeleted, "u", 1);
    bus.publish(std::slice::from_ref(&gone)).await.unwrap();
    let counts = bus.counts().await.unwrap();
    assert_eq!((counts.messages, counts.dead_letters), (2, 0));
    let queue = TASK_USER_DELETED;
    let mut subscription = bus.subscribe(&[queue], 10).await.unwrap();
    let delivery = subscription.next_batch(10).await.unwrap().remove(0);
    subscription
        .dead_letter(&delivery, "nobody can read it")
        .await
        .unwrap();
    let counts = bus.counts().await.unwrap();
    assert_eq!((counts.messages, counts.dead_letters), (1, 1));
}
