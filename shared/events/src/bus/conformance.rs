//! What every [`Bus`] must do, whatever its broker. Call [`bus_conformance!`](crate::bus_conformance) with
//! an `async fn() -> impl Bus` that returns an empty bus; each fact becomes a test.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::time::Duration;

use contract::event::{Envelope, EventType};
use jiff::Timestamp;
use serde_json::json;
use testkit::eventually;
use tokio::time::timeout;

use super::dead_letters::{DeadLetter, DeadLetters, Redrive, Redriven};
use super::refill::Refillable;
use super::{Bus, Delivery, PublishOutcome, Queue, Subscription, Topology};

/// The queues of the platform's consumers. A test in `workers/process` keeps the two lists equal.
pub const TASK_QUEUES: [Queue; 3] = [
    Queue {
        name: "task_created",
        event_type: EventType::TaskCreated,
    },
    Queue {
        name: "task_updated",
        event_type: EventType::TaskUpdated,
    },
    Queue {
        name: "task_deleted",
        event_type: EventType::TaskDeleted,
    },
];
pub const TASK_USER_DELETED: Queue = Queue {
    name: "task.user_deleted",
    event_type: EventType::UserDeleted,
};
pub const NOTIFICATION_USER_DELETED: Queue = Queue {
    name: "notification.user_deleted",
    event_type: EventType::UserDeleted,
};

/// The topology of these queues.
pub fn topology() -> Topology {
    Topology::of(&[
        &TASK_QUEUES,
        &[TASK_USER_DELETED, NOTIFICATION_USER_DELETED],
    ])
}

const SOON: Duration = Duration::from_secs(20);

/// One test for each fact.
#[macro_export]
macro_rules! bus_conformance {
    ($fresh:path) => {
        $crate::bus_conformance!($fresh:
            an_event_is_delivered_from_the_queue_of_its_type
            events_of_one_queue_keep_their_order_through_a_batch
            what_is_not_acknowledged_comes_again
            what_is_acknowledged_never_comes_again
            a_batch_is_never_larger_than_asked_for
            a_dead_letter_is_out_of_the_way
            dead_letters_go_back_to_their_queue_once_and_only_those_that_are_meant
            a_message_can_be_published_again_and_again
            a_hint_reaches_all_who_listen_and_nobody_who_comes_later
            the_broker_answers_a_ping
        );
    };
    ($fresh:path: $($fact:ident)*) => {$(
        #[tokio::test]
        async fn $fact() {
            $crate::bus::conformance::$fact($fresh().await).await;
        }
    )*};
}

/// An event of version `version` of the task `subject`.
pub fn event(event_type: EventType, subject: &str, version: u64) -> Envelope {
    Envelope::new(
        "/test",
        event_type,
        subject,
        version,
        Timestamp::UNIX_EPOCH,
        json!({}),
    )
}

fn created(count: u64) -> Vec<Envelope> {
    (1..=count)
        .map(|version| event(EventType::TaskCreated, "t", version))
        .collect()
}

async fn publish(bus: &impl Bus, batch: &[Envelope]) {
    let outcomes = bus.publish(batch).await.expect("the bus is there");
    assert_eq!(outcomes, vec![PublishOutcome::Confirmed; batch.len()]);
}

async fn subscribe(bus: &impl Bus) -> Box<dyn Subscription> {
    bus.subscribe(&TASK_QUEUES, 300)
        .await
        .expect("the bus is there")
}

/// Receives exactly `count` deliveries.
async fn receive(from: &mut dyn Subscription, count: usize) -> Vec<Delivery> {
    let mut received = Vec::new();
    while received.len() < count {
        let next = from.next_batch(count - received.len());
        let batch = timeout(SOON, next).await;
        received.extend(
            batch
                .expect("a delivery within 20 s")
                .expect("the bus is there"),
        );
    }
    received
}

fn envelope(delivery: &Delivery) -> Envelope {
    serde_json::from_slice(&delivery.body).expect("what was published")
}

fn ids(deliveries: &[Delivery]) -> Vec<String> {
    deliveries
        .iter()
        .map(|delivery| envelope(delivery).id)
        .collect()
}

pub async fn an_event_is_delivered_from_the_queue_of_its_type(bus: impl Bus) {
    let batch: Vec<_> = (1..)
        .zip(TASK_QUEUES)
        .map(|(n, q)| event(q.event_type, "t", n))
        .collect();
    publish(&bus, &batch).await;
    let mut subscription = subscribe(&bus).await;
    let received = receive(subscription.as_mut(), batch.len()).await;
    for sent in batch {
        let got = received
            .iter()
            .find(|d| envelope(d) == sent)
            .expect("each event arrives whole");
        let queue = TASK_QUEUES
            .iter()
            .find(|q| q.event_type == sent.event_type)
            .unwrap();
        assert_eq!((got.queue, got.redelivered), (queue.name, false));
    }
}

pub async fn events_of_one_queue_keep_their_order_through_a_batch(bus: impl Bus) {
    let batch = created(200);
    publish(&bus, &batch).await;
    let mut subscription = subscribe(&bus).await;
    // Some brokers apply the prefetch to all queues together, so acknowledge meanwhile.
    let mut received = Vec::new();
    while received.len() < batch.len() {
        let deliveries = receive(subscription.as_mut(), 20).await;
        subscription.ack(&deliveries).await.unwrap();
        received.extend(ids(&deliveries));
    }
    assert_eq!(
        received,
        batch.iter().map(|e| e.id.clone()).collect::<Vec<_>>()
    );
}

pub async fn what_is_not_acknowledged_comes_again(bus: impl Bus) {
    let batch = created(3);
    publish(&bus, &batch).await;
    let mut subscription = subscribe(&bus).await;
    let first = receive(subscription.as_mut(), 3).await;
    subscription.ack(&first[1..2]).await.unwrap();
    drop(subscription);

    let mut subscription = subscribe(&bus).await;
    let mut again = receive(subscription.as_mut(), 2).await;
    again.sort_by_key(|delivery| envelope(delivery).id);
    assert_eq!(ids(&again), ["t:1", "t:3"]);
    assert!(again.iter().all(|delivery| delivery.redelivered));
}

pub async fn what_is_acknowledged_never_comes_again(bus: impl Bus) {
    publish(&bus, &created(3)).await;
    let mut subscription = subscribe(&bus).await;
    let mut received = receive(subscription.as_mut(), 3).await;
    received.swap(0, 2);
    subscription.ack(&received).await.unwrap();
    // The queue keeps its order, so a message that came again would arrive before the marker.
    assert_only_a_marker_is_left(&bus, subscription).await;
}

pub async fn a_batch_is_never_larger_than_asked_for(bus: impl Bus) {
    publish(&bus, &created(10)).await;
    let mut subscription = subscribe(&bus).await;
    let mut left = 10;
    while left > 0 {
        let batch = subscription.next_batch(4).await.unwrap();
        assert!((1..=4).contains(&batch.len()));
        left -= batch.len();
    }
}

pub async fn a_dead_letter_is_out_of_the_way(bus: impl Bus) {
    publish(&bus, &created(2)).await;
    let mut subscription = subscribe(&bus).await;
    let received = receive(subscription.as_mut(), 2).await;
    subscription
        .dead_letter(&received[0], "nobody can read it")
        .await
        .unwrap();
    subscription
        .dead_letter(&received[1], "nor this one")
        .await
        .unwrap();
    assert_only_a_marker_is_left(&bus, subscription).await;
}

pub async fn dead_letters_go_back_to_their_queue_once_and_only_those_that_are_meant(
    bus: impl DeadLetters,
) {
    let mut events = created(3);
    events.push(event(EventType::TaskDeleted, "t", 4));
    publish(&bus, &events).await;
    let mut subscription = subscribe(&bus).await;
    for delivery in receive(subscription.as_mut(), 4).await {
        subscription
            .dead_letter(&delivery, "a reason")
            .await
            .unwrap();
    }
    drop(subscription);
    // A broker counts messages that were put back a moment later.
    let wait_for_count = async |count| {
        eventually(SOON, async || bus.dead_letters().await.unwrap() == count).await;
    };
    wait_for_count(4).await;

    let all = Redrive {
        limit: 1_000,
        event_type: None,
        dry_run: false,
    };
    let of = |event_type| Redrive {
        event_type: Some(event_type),
        ..all
    };
    let redrive = async |what: Redrive| {
        let mut seen = Vec::new();
        let mut see = |letter: &DeadLetter| seen.push(letter.clone());
        let done = bus.redrive(&what, &mut see).await.unwrap();
        assert_eq!(seen.len(), done.moved);
        assert!(
            seen.iter().all(|letter| letter.reason == "a reason"),
            "{seen:?}"
        );
        (
            done,
            seen.into_iter()
                .map(|letter| letter.event_id)
                .collect::<Vec<_>>(),
        )
    };
    let look = Redrive {
        dry_run: true,
        ..of(EventType::TaskCreated)
    };
    for _ in 0..2 {
        let (done, ids) = redrive(look).await;
        assert_eq!((done.moved, done.left), (3, 1));
        wait_for_count(4).await;
        assert_eq!(BTreeSet::from_iter(ids).len(), 3);
    }
    let (done, ids) = redrive(of(EventType::TaskDeleted)).await;
    assert_eq!((done.moved, done.left), (1, 3));
    assert_eq!(ids, ["t:4"]);
    wait_for_count(3).await;
    assert_eq!(redrive(Redrive { limit: 2, ..all }).await.0.moved, 2);
    assert_eq!(redrive(all).await.0.moved, 1);
    assert_eq!(redrive(all).await.0, Redriven::default());

    let mut subscription = subscribe(&bus).await;
    let received = receive(subscription.as_mut(), 4).await;
    let queues: BTreeSet<_> = received
        .iter()
        .map(|delivery| (envelope(delivery).id, delivery.queue))
        .collect();
    assert_eq!(queues.len(), 4);
    assert!(queues.contains(&("t:4".to_owned(), "task_deleted")));
    // A message that is dead-lettered a second time has the new reason.
    subscription
        .dead_letter(&received[0], "another")
        .await
        .unwrap();
    let mut reasons = Vec::new();
    let look = Redrive {
        dry_run: true,
        ..all
    };
    let mut see = |letter: &DeadLetter| reasons.push(letter.reason.clone());
    assert_eq!(bus.redrive(&look, &mut see).await.unwrap().moved, 1);
    assert_eq!(reasons, ["another"]);
}

pub async fn a_message_can_be_published_again_and_again(bus: impl Bus) {
    let same = created(1);
    publish(&bus, &same).await;
    publish(&bus, &[same[0].clone(), same[0].clone()]).await;
    let mut subscription = subscribe(&bus).await;
    let received = receive(subscription.as_mut(), 3).await;
    assert_eq!(ids(&received), ["t:1", "t:1", "t:1"]);
}

pub async fn a_hint_reaches_all_who_listen_and_nobody_who_comes_later(bus: impl Bus) {
    let hint = async |text: &'static str| bus.hint(text.into()).await.unwrap();
    hint("nobody").await;
    let mut one = bus.hints().await.unwrap();
    hint("one").await;
    let mut other = bus.hints().await.unwrap();
    hint("both").await;
    for (listener, heard) in [(&mut one, &["one", "both"][..]), (&mut other, &["both"])] {
        for text in heard {
            let next = timeout(SOON, listener.next()).await;
            assert_eq!(next.expect("a hint within 20 s").unwrap(), text);
        }
    }
}

pub async fn the_broker_answers_a_ping(bus: impl Bus) {
    // The first call may have to connect, and on a loaded machine that can take longer than a ping may.
    publish(&bus, &created(1)).await;
    bus.ping().await.unwrap();
}

async fn assert_only_a_marker_is_left(bus: &impl Bus, subscription: Box<dyn Subscription>) {
    drop(subscription);
    let marker = event(EventType::TaskCreated, "marker", 1);
    publish(bus, std::slice::from_ref(&marker)).await;
    let mut subscription = subscribe(bus).await;
    let received = receive(subscription.as_mut(), 1).await;
    assert_eq!(ids(&received), [marker.id]);
}

/// Declares everything on an empty broker and acknowledges the losses that this reports. A worker that
/// starts later has nothing to refill, so what is in its queues was published.
pub async fn declared(bus: &impl Refillable, exchange: &'static str) {
    bus.declare().await.unwrap();
    let mut lost = bus.losses(exchange).await.unwrap();
    let ours = bus
        .topology()
        .queues()
        .iter()
        .filter(|queue| queue.exchange() == exchange);
    let mut left = ours.count();
    while left > 0 {
        let batch = lost.next_batch(left).await.unwrap();
        lost.ack(&batch).await.unwrap();
        left -= batch.len();
    }
}
