//! RabbitMQ as a `Bus`: the conformance suite, and what only a real broker shows.

use std::collections::BTreeSet;
use std::sync::Arc;

use contract::event::{Envelope, EventType};
use events::bus::conformance::{TASK_QUEUES, declared, event};
use events::bus::refill::{History, Refillable, Refiller};
use events::bus::{Bus, BusError, PublishOutcome};
use futures_util::future::join_all;
use futures_util::stream::{self, BoxStream, StreamExt};
use http::Method;
use jiff::Timestamp;
use rabbitmq::RabbitBus;
use runtime::secret::Secret;
use serde_json::{Value, json};
use stores::StoreError;
use testkit::{Vhost, shared_rabbitmq};

pub(crate) fn bus(url: &str) -> RabbitBus {
    RabbitBus::new(&Secret::new(url), events::bus::conformance::topology()).unwrap()
}

pub(crate) async fn fresh() -> RabbitBus {
    bus(&shared_rabbitmq().await.fresh_vhost().await.url())
}

events::bus_conformance!(fresh);

pub(crate) fn created(version: u64) -> Envelope {
    event(EventType::TaskCreated, "t", version)
}

pub(crate) async fn delete_queue(vhost: &Vhost, name: &str) {
    let path = format!("/api/queues/{}/{name}", vhost.name());
    shared_rabbitmq()
        .await
        .manage(Method::DELETE, &path, json!({}))
        .await;
}

/// The messages of a queue. They are put back afterwards.
pub(crate) async fn peek(vhost: &Vhost, name: &str) -> Vec<Value> {
    let path = format!("/api/queues/{}/{name}/get", vhost.name());
    let all = json!({"count": 100, "ackmode": "ack_requeue_true", "encoding": "auto"});
    let messages = shared_rabbitmq()
        .await
        .manage(Method::POST, &path, all)
        .await;
    messages.as_array().unwrap().clone()
}

#[tokio::test]
async fn a_message_is_persistent_and_says_what_it_is() {
    let vhost = shared_rabbitmq().await.fresh_vhost().await;
    bus(&vhost.url()).publish(&[created(1)]).await.unwrap();
    let message = &peek(&vhost, "task_created").await[0];
    assert_eq!(message["routing_key"], "task.created.v1");
    assert_eq!(message["exchange"], "tasks");
    let properties = &message["properties"];
    assert_eq!(properties["content_type"], "application/cloudevents+json");
    assert_eq!(properties["delivery_mode"], 2);
    assert_eq!(properties["message_id"], "t:1");
    assert_eq!(properties["timestamp"], 0);
    assert_eq!(properties["type"], "task.created.v1");
}

#[tokio::test]
async fn only_the_unroutable_one_of_a_batch_counts_as_failed_and_its_queue_is_made_anew() {
    let vhost = shared_rabbitmq().await.fresh_vhost().await;
    let bus = bus(&vhost.url());
    bus.publish(&[created(1)]).await.unwrap();
    delete_queue(&vhost, "task_updated").await;

    // The broker confirms unroutable messages at once, before earlier ones that a queue still writes.
    let mut batch: Vec<_> = (2..50).map(created).collect();
    batch.push(event(EventType::TaskUpdated, "t", 50));
    batch.push(created(51));
    let outcomes = bus.publish(&batch).await.unwrap();
    let failed = PublishOutcome::Failed("returned: no queue is bound for it".into());
    for (event, outcome) in batch.iter().zip(outcomes) {
        let wanted = match event.event_type {
            EventType::TaskUpdated => failed.clone(),
            _ => PublishOutcome::Confirmed,
        };
        assert_eq!(outcome, wanted, "{}", event.id);
    }
    let again = [event(EventType::TaskUpdated, "t", 50)];
    assert_eq!(
        bus.publish(&again).await.unwrap(),
        [PublishOutcome::Confirmed]
    );
}

#[tokio::test]
async fn all_who_find_nothing_at_the_same_time_declare_it() {
    let vhost = shared_rabbitmq().await.fresh_vhost().await;
    let publish = async || bus(&vhost.url()).publish(&[created(1)]).await;
    let published = join_all((0..8).map(|_| publish())).await;
    for outcomes in published {
        assert_eq!(outcomes.unwrap(), [PublishOutcome::Confirmed]);
    }
}

#[tokio::test]
async fn a_queue_of_other_arguments_is_named_in_the_refusal() {
    let vhost = shared_rabbitmq().await.fresh_vhost().await;
    let path = format!("/api/queues/{}/task_created", vhost.name());
    let classic = json!({"durable": true, "arguments": {"x-queue-type": "classic"}});
    shared_rabbitmq()
        .await
        .manage(Method::PUT, &path, classic)
        .await;
    let error = bus(&vhost.url()).publish(&[created(1)]).await.unwrap_err();
    let BusError::Refused(why) = &error else {
        panic!("{error:?}")
    };
    assert!(
        why.contains("the queue `task_created`") && why.contains("inequivalent arg"),
        "{why}"
    );
}

#[tokio::test]
async fn a_wrong_password_and_a_missing_virtual_host_are_refusals() {
    let rabbit = shared_rabbitmq().await;
    let vhost = rabbit.fresh_vhost().await;
    for url in [
        vhost
            .url()
            .replacen(&format!(":{}@", rabbit.password()), ":wrong@", 1),
        vhost.url() + "-which-nobody-made",
    ] {
        let error = bus(&url).publish(&[created(1)]).await.unwrap_err();
        assert!(matches!(error, BusError::Refused(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_deleted_queue_ends_the_subscription_and_the_next_one_makes_it_anew() {
    let vhost = shared_rabbitmq().await.fresh_vhost().await;
    let bus = bus(&vhost.url());
    let mut subscription = bus.subscribe(&TASK_QUEUES, 10).await.unwrap();
    delete_queue(&vhost, "task_created").await;
    let error = subscription.next_batch(1).await.unwrap_err();
    assert!(matches!(error, BusError::Unavailable(_)), "{error:?}");

    let mut subscription = bus.subscribe(&TASK_QUEUES, 10).await.unwrap();
    bus.publish(&[created(1)]).await.unwrap();
    assert_eq!(subscription.next_batch(1).await.unwrap().len(), 1);
}

/// Waits until `count` queues of an exchange are recorded as lost, and returns their names.
pub(crate) async fn lost(
    bus: &RabbitBus,
    exchange: &'static str,
    count: usize,
) -> BTreeSet<String> {
    let mut losses = bus.losses(exchange).await.unwrap();
    let mut names = BTreeSet::new();
    while names.len() < count {
        for loss in losses.next_batch(10).await.unwrap() {
            let loss: Value = serde_json::from_slice(&loss.body).unwrap();
            names.insert(loss["queue"].as_str().unwrap().to_owned());
        }
    }
    names
}

/// Declares everything, deletes what `deleted` names (a path of the management API), declares again, and
/// asserts that the loss of `queues` is recorded.
async fn assert_loss_is_recorded(deleted: &str, exchange: &'static str, queues: &[&str]) {
    let vhost = shared_rabbitmq().await.fresh_vhost().await;
    let bus = bus(&vhost.url());
    declared(&bus, exchange).await;
    let path = deleted.replacen("%", vhost.name(), 1);
    let rabbit = shared_rabbitmq().await;
    rabbit.manage(Method::DELETE, &path, json!({})).await;
    bus.declare().await.unwrap();
    let names = lost(&bus, exchange, queues.len()).await;
    assert!(names.iter().eq(queues), "{names:?}");
}

#[tokio::test]
async fn the_loss_of_a_queue_is_told_to_its_exchange_alone() {
    assert_loss_is_recorded("/api/queues/%/task_updated", "tasks", &["task_updated"]).await;
}

#[tokio::test]
async fn with_an_exchange_or_the_queue_of_its_losses_all_its_queues_are_told_as_lost() {
    let both = ["notification.user_deleted", "task.user_deleted"];
    assert_loss_is_recorded("/api/exchanges/%/users", "users", &both).await;
    assert_loss_is_recorded("/api/queues/%/users.lost", "users", &both).await;
}

#[tokio::test]
async fn a_loss_that_no_version_of_ours_told_is_put_aside() {
    let vhost = shared_rabbitmq().await.fresh_vhost().await;
    let bus = Arc::new(bus(&vhost.url()));
    declared(&*bus, "tasks").await;
    let path = format!("/api/exchanges/{}/amq.default/publish", vhost.name());
    let unknown = json!({
        "properties": {}, "routing_key": "tasks.lost", "payload": "?", "payload_encoding": "string",
    });
    shared_rabbitmq()
        .await
        .manage(Method::POST, &path, unknown)
        .await;
    let mut losses = bus.losses("tasks").await.unwrap();
    let refiller = Refiller::new(bus.clone(), Arc::new(Nothing), "tasks");
    assert_eq!(refiller.refill_once(losses.as_mut()).await.unwrap(), 0);
    let dead_letter = &peek(&vhost, "dead_letter").await[0];
    assert_eq!(dead_letter["payload"], "?");
}

/// A history without events.
struct Nothing;

impl History for Nothing {
    fn events_since(
        &self,
        _: EventType,
        _: Timestamp,
    ) -> BoxStream<'static, Result<Envelope, StoreError>> {
        stream::empty().boxed()
    }
}

#[tokio::test]
async fn a_dead_letter_keeps_its_body_and_says_why_and_from_where() {
    let vhost = shared_rabbitmq().await.fresh_vhost().await;
    let bus = bus(&vhost.url());
    bus.publish(&[created(1)]).await.unwrap();
    let mut subscription = bus.subscribe(&TASK_QUEUES, 10).await.unwrap();
    let delivery = subscription.next_batch(1).await.unwrap().remove(0);
    let reason = "é".repeat(2_000);
    subscription.dead_letter(&delivery, &reason).await.unwrap();

    let message = &peek(&vhost, "dead_letter").await[0];
    assert_eq!(
        message["payload"].as_str().unwrap().as_bytes(),
        delivery.body
    );
    assert_eq!(message["properties"]["message_id"], "t:1");
    assert_eq!(message["properties"]["type"], "task.created.v1");
    let headers = &message["properties"]["headers"];
    assert_eq!(headers["x-reason"], "é".repeat(500));
    assert_eq!(headers["x-original-queue"], "task_created");
    assert_eq!(headers["x-event-id"], "t:1");
}

#[tokio::test]
async fn a_dead_letter_without_its_queue_is_not_acknowledged() {
    let vhost = shared_rabbitmq().await.fresh_vhost().await;
    let bus = bus(&vhost.url());
    bus.publish(&[created(1)]).await.unwrap();
    let mut subscription = bus.subscribe(&TASK_QUEUES, 10).await.unwrap();
    let delivery = subscription.next_batch(1).await.unwrap().remove(0);
    delete_queue(&vhost, "dead_letter").await;
    assert!(
        subscription
            .dead_letter(&delivery, "unreadable")
            .await
            .is_err()
    );
    drop(subscription);

    let mut subscription = bus.subscribe(&TASK_QUEUES, 10).await.unwrap();
    let again = subscription.next_batch(1).await.unwrap().remove(0);
    assert_eq!(again.body, delivery.body);
    subscription
        .dead_letter(&again, "unreadable")
        .await
        .unwrap();
    assert_eq!(peek(&vhost, "dead_letter").await.len(), 1);
}
