//! What a real broker does when it hangs, runs short, dies, or loses a queue's leader.

use std::time::Duration;

use contract::event::{Envelope, EventType};
use events::bus::conformance::{TASK_QUEUES, declared, event};
use events::bus::refill::Refillable;
use events::bus::{Bus, BusError, PublishOutcome};
use http::Method;
use runtime::error::chain;
use serde_json::json;
use testkit::{ChaosProxy, RabbitMq, eventually, shared_rabbitmq};
use tokio::time::timeout;

use crate::bus::{bus, created, lost};

#[tokio::test]
async fn a_broker_that_falls_silent_is_noticed_by_publisher_subscriber_and_ping() {
    let rabbit = shared_rabbitmq().await;
    let proxy = ChaosProxy::start(rabbit.address()).await;
    let vhost = rabbit.fresh_vhost().await;
    let bus = bus(&(vhost.url_at(proxy.address()) + "?heartbeat=1"));
    let mut subscription = bus.subscribe(&TASK_QUEUES, 10).await.unwrap();
    let mut proxy = proxy;
    proxy.blackhole().await;
    assert!(bus.ping().await.is_err());
    assert!(subscription.next_batch(1).await.is_err());
    assert!(bus.publish(&[created(1)]).await.is_err());

    proxy.restore().await;
    eventually(Duration::from_secs(10), || {
        bus.publish(std::slice::from_ref(&EVENT))
    })
    .await;
}

static EVENT: std::sync::LazyLock<Envelope> = std::sync::LazyLock::new(|| created(1));

#[tokio::test]
async fn a_broker_short_of_memory_says_so_to_who_publishes_and_goes_on_with_who_consumes() {
    let mut rabbit = RabbitMq::start().await;
    let both = [created(1), created(2)];
    bus(&rabbit.url()).publish(&both).await.unwrap();
    rabbit.settle().await;
    rabbit.starve().await;

    let bus = bus(&rabbit.url());
    let mut subscription = bus.subscribe(&TASK_QUEUES, 10).await.unwrap();
    let mut received = Vec::new();
    while received.len() < both.len() {
        received.extend(subscription.next_batch(10).await.unwrap());
    }
    let assert_short_of_memory = |error: BusError| {
        let why = chain(&error);
        assert!(why.contains("short of memory"), "{why}");
    };
    assert_short_of_memory(bus.publish(&[created(3)]).await.unwrap_err());
    // From now on the alarm is known, and no call waits.
    let again = timeout(Duration::from_secs(1), async {
        assert_short_of_memory(bus.publish(&[created(3)]).await.unwrap_err());
        let dead_lettered = subscription.dead_letter(&received[0], "unreadable");
        assert_short_of_memory(dead_lettered.await.unwrap_err());
    });
    again.await.unwrap();
    // A hint does not wait either, neither the first one during the alarm nor a later one.
    for _ in 0..2 {
        bus.hint("look".into()).await.unwrap();
    }

    subscription.ack(&received[1..]).await.unwrap();
    drop(subscription);
    let mut subscription = bus.subscribe(&TASK_QUEUES, 10).await.unwrap();
    let left = subscription.next_batch(10).await.unwrap();
    let bodies: Vec<_> = left.iter().map(|delivery| &delivery.body).collect();
    assert_eq!(bodies, [&received[0].body]);
}

#[tokio::test]
async fn a_broken_connection_is_rebuilt_by_the_next_call() {
    let rabbit = shared_rabbitmq().await;
    let mut proxy = ChaosProxy::start(rabbit.address()).await;
    let bus = bus(&rabbit.fresh_vhost().await.url_at(proxy.address()));
    bus.publish(&[created(1)]).await.unwrap();
    proxy.refuse().await;
    eventually(Duration::from_secs(5), || async {
        bus.publish(&[created(2)]).await.is_err()
    })
    .await;
    proxy.restore().await;
    assert_eq!(
        bus.publish(&[created(2)]).await.unwrap(),
        [PublishOutcome::Confirmed]
    );
}

#[tokio::test]
async fn what_was_confirmed_survives_kill_9_of_the_broker_and_publishing_goes_on() {
    let mut rabbit = RabbitMq::start().await;
    let bus = bus(&rabbit.url());
    let batch: Vec<_> = (1..=100).map(created).collect();
    assert_eq!(
        bus.publish(&batch).await.unwrap(),
        vec![PublishOutcome::Confirmed; 100]
    );
    rabbit.settle().await;
    rabbit.kill();
    assert!(bus.publish(&[created(101)]).await.is_err());
    rabbit.restart().await;
    eventually(Duration::from_secs(30), || async {
        bus.publish(&[created(101)])
            .await
            .map(|outcomes| outcomes == [PublishOutcome::Confirmed])
            .unwrap_or(false)
    })
    .await;

    let mut subscription = bus.subscribe(&TASK_QUEUES, 300).await.unwrap();
    let mut received = Vec::new();
    while received.last().is_none_or(|id| id != "t:101") {
        let batch = subscription.next_batch(50).await.unwrap();
        subscription.ack(&batch).await.unwrap();
        for delivery in batch {
            received.push(
                serde_json::from_slice::<Envelope>(&delivery.body)
                    .unwrap()
                    .id,
            );
        }
    }
    // A publish without a confirm may have been written nevertheless.
    received.dedup();
    let all: Vec<String> = (1..=101).map(|version| format!("t:{version}")).collect();
    assert_eq!(received, all);
}

#[tokio::test]
async fn a_queue_without_a_leader_is_named_and_once_deleted_it_works_again_and_is_told_as_lost() {
    let mut rabbit = RabbitMq::start().await;
    let vhost = rabbit.fresh_vhost().await;
    let bus = bus(&vhost.url());
    declared(&bus, "tasks").await;
    rabbit.settle().await;
    assert_eq!(rabbit.lose_files("task_created").unwrap(), 1);
    rabbit.restart().await;

    let refused = eventually(Duration::from_secs(30), async || {
        match bus.subscribe(&TASK_QUEUES, 1).await {
            Err(error) if chain(&error).contains("task_created") => Ok(chain(&error)),
            Err(error) => Err(chain(&error)),
            Ok(_) => Err("subscribed".to_owned()),
        }
    })
    .await;
    assert!(refused.contains("has no leader"), "{refused}");
    let created = bus.publish(&[created(1)]).await.unwrap();
    assert!(
        matches!(created[..], [PublishOutcome::Failed(_)]),
        "{created:?}"
    );
    let deleted = [event(EventType::TaskDeleted, "t", 2)];
    assert_eq!(
        bus.publish(&deleted).await.unwrap(),
        [PublishOutcome::Confirmed]
    );

    let path = format!("/api/queues/{}/task_created", vhost.name());
    rabbit.manage(Method::DELETE, &path, json!({})).await;
    drop(bus.subscribe(&TASK_QUEUES, 1).await.unwrap());
    let names = lost(&bus, "tasks", 1).await;
    assert!(names.iter().eq(["task_created"]), "{names:?}");
}

#[tokio::test]
async fn a_queue_that_was_deleted_and_made_anew_survives_kill_9_of_a_broker_that_has_settled() {
    let mut rabbit = RabbitMq::start().await;
    let vhost = rabbit.fresh_vhost().await;
    let bus = bus(&vhost.url());
    declared(&bus, "tasks").await;
    rabbit.settle().await;
    let path = format!("/api/queues/{}/task_created", vhost.name());
    rabbit.manage(Method::DELETE, &path, json!({})).await;
    bus.declare().await.unwrap();
    let published = bus.publish(&[created(1)]).await.unwrap();
    assert_eq!(published, [PublishOutcome::Confirmed]);
    rabbit.settle().await;
    rabbit.kill();
    rabbit.restart().await;
    let mut subscription = eventually(Duration::from_secs(30), async || {
        let subscribed = bus.subscribe(&TASK_QUEUES, 1).await;
        subscribed.map_err(|error| chain(&error))
    })
    .await;
    assert_eq!(subscription.next_batch(1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn connections_that_are_refused_leave_nothing_behind() {
    let bus = bus(&format!("amqp://127.0.0.1:{}/%2f", testkit::free_port()));
    let alive = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    bus.ping().await.unwrap_err();
    let before = alive();
    for _ in 0..30 {
        bus.ping().await.unwrap_err();
    }
    eventually(Duration::from_secs(5), async || alive() <= before + 1).await;
}
