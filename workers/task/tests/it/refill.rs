//! A deleted queue is filled again from the outbox and the history.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bson::{DateTime, Document, doc};
use contract::event::{Envelope, EventType};
use events::bus::conformance::TASK_QUEUES;
use events::bus::refill::{History, REACH, Refillable, Refiller};
use events::bus::{Bus, Subscription};
use events::outbox::Outbox;
use events::relay::Relay;
use futures_util::stream::{self, BoxStream, StreamExt};
use http::Method;
use jiff::{SignedDuration, Timestamp};
use mongodb::Database;
use rabbitmq::RabbitBus;
use runtime::time::SystemClock;
use serde_json::json;
use stores::StoreError;
use tasks::domain::Task;
use tasks::store::TaskStore;
use tasks_mongo::MongoTaskStore;
use testkit::{Vhost, shared_mongodb, shared_rabbitmq};

use crate::conformance::{at, insert, new};
use crate::support::{self, Worker, create_titled};

/// More than one batch of the refiller.
const TASKS: usize = 600;

async fn delete_queue(vhost: &str, name: &str) {
    let path = format!("/api/queues/{vhost}/{name}");
    let rabbit = shared_rabbitmq().await;
    rabbit.manage(Method::DELETE, &path, json!({})).await;
}

/// A bus with all queues declared, and the queue of its losses.
async fn bus_and_losses() -> (Vhost, Arc<RabbitBus>, Box<dyn Subscription>) {
    let vhost = support::broker().await;
    let bus = Arc::new(support::bus(&vhost.url()));
    let lost = bus.losses("tasks").await.unwrap();
    (vhost, bus, lost)
}

async fn store() -> (Arc<MongoTaskStore>, Database) {
    let mongo = shared_mongodb().await;
    let name = mongo.fresh_database();
    let store = support::store(&mongo.url(), &name).await;
    store.prepare().await.unwrap();
    let client = mongodb::Client::with_uri_str(mongo.url()).await.unwrap();
    (Arc::new(store), client.database(&name))
}

fn refiller(bus: &Arc<RabbitBus>, history: impl History) -> Refiller {
    Refiller::new(bus.clone(), Arc::new(history), "tasks")
}

/// Stores a task that was created `from_now` from now.
async fn insert_at(store: &MongoTaskStore, title: &str, from_now: SignedDuration) -> Task {
    let ms = (Timestamp::now() + from_now).duration_since(at(0));
    insert(store, "ann", new(title), ms.as_millis() as i64).await
}

/// Consumes events until there are `count` different ids, and returns these.
async fn received(bus: &RabbitBus, count: usize) -> BTreeSet<String> {
    let mut subscription = bus.subscribe(&TASK_QUEUES, 900).await.unwrap();
    let mut ids = BTreeSet::new();
    while ids.len() < count {
        let batch = subscription.next_batch(300).await.unwrap();
        subscription.ack(&batch).await.unwrap();
        for delivery in batch {
            let event: Envelope = serde_json::from_slice(&delivery.body).unwrap();
            ids.insert(event.id);
        }
    }
    ids
}

#[tokio::test]
async fn a_deleted_queue_is_filled_with_what_happened_within_its_reach() {
    let ((store, _), (vhost, bus, mut lost)) = (store().await, bus_and_losses().await);
    let (hour, reach) = (
        SignedDuration::from_hours(1),
        SignedDuration::try_from(REACH).unwrap(),
    );
    let too_old = insert_at(&store, "too old", -reach - hour).await;
    let tasks: Vec<_> = stream::iter(0..TASKS)
        .map(|n| {
            let store = store.clone();
            async move { insert_at(&store, &n.to_string(), hour - reach).await }
        })
        .buffer_unordered(32)
        .collect()
        .await;
    let registry = prometheus::Registry::new();
    let clock = Arc::new(SystemClock);
    let (relay, _) = Relay::new(store.clone(), bus.clone(), clock, &registry);
    while relay.sweep_once(Timestamp::MAX).await.unwrap().found > 0 {}
    // Published to the queue that will be deleted, but still in the outbox: no worker has marked it.
    let waiting = insert_at(&store, "waiting", -hour).await;
    let pending = store.pending(Timestamp::MAX, 10).await.unwrap();
    bus.publish(&[pending[0].event.clone()]).await.unwrap();

    delete_queue(vhost.name(), "task_created").await;
    // Whoever comes first declares the queue again; here, a consumer, which has no history.
    let other = support::bus(&vhost.url());
    drop(other.subscribe(&TASK_QUEUES, 10).await.unwrap());
    let refiller = refiller(&bus, store.outbox());
    let put_back = refiller.refill_once(lost.as_mut()).await.unwrap();
    assert_eq!(put_back, TASKS + 1);

    let ids = received(&bus, TASKS + 1).await;
    let expected = tasks.iter().chain([&waiting]);
    assert!(
        expected
            .into_iter()
            .all(|task| ids.contains(&format!("{}:1", task.id)))
    );
    assert!(!ids.contains(&format!("{}:1", too_old.id)));
}

/// A history that cannot be read.
struct Away;

impl History for Away {
    fn events_since(
        &self,
        _: EventType,
        _: Timestamp,
    ) -> BoxStream<'static, Result<Envelope, StoreError>> {
        stream::once(async { Err(StoreError::unavailable("read", "it is away")) }).boxed()
    }
}

#[tokio::test]
async fn a_loss_that_was_not_mended_is_still_known() {
    let ((store, _), (vhost, bus, mut lost)) = (store().await, bus_and_losses().await);
    let task = insert_at(&store, "x", SignedDuration::ZERO).await;
    delete_queue(vhost.name(), "task_created").await;
    bus.declare().await.unwrap();
    let failed = refiller(&bus, Away).refill_once(lost.as_mut()).await;
    failed.unwrap_err();
    drop(lost);

    let mut lost = bus.losses("tasks").await.unwrap();
    let refiller = refiller(&bus, store.outbox());
    assert_eq!(refiller.refill_once(lost.as_mut()).await.unwrap(), 1);
    assert_eq!(received(&bus, 1).await, [format!("{}:1", task.id)].into());
}

#[tokio::test]
async fn what_cannot_be_read_keeps_nothing_else_from_the_queue() {
    let ((store, database), (vhost, bus, mut lost)) = (store().await, bus_and_losses().await);
    let (task, now) = (
        insert_at(&store, "x", SignedDuration::ZERO).await,
        DateTime::now(),
    );
    let kind = EventType::TaskCreated.as_str();
    let unreadable = doc! {"_id": "?", "type": kind, "at": now, "version": 1_i64, "event": "?"};
    let holder = doc! {"_id": "?", "pending": [&unreadable]};
    for (name, document) in [("task_events", unreadable), ("tasks", holder)] {
        let collection = database.collection::<Document>(name);
        collection.insert_one(document).await.unwrap();
    }
    delete_queue(vhost.name(), "task_created").await;
    bus.declare().await.unwrap();
    let refiller = refiller(&bus, store.outbox());
    assert_eq!(refiller.refill_once(lost.as_mut()).await.unwrap(), 1);
    assert_eq!(received(&bus, 1).await, [format!("{}:1", task.id)].into());
}

#[tokio::test]
async fn a_worker_fills_a_deleted_queue_while_it_works() {
    let vhost = support::broker().await;
    let mongo = shared_mongodb().await;
    let worker = Worker::with(&mongo.url(), &mongo.fresh_database(), &vhost.url()).await;
    let ann = worker.as_user("ann");
    let before = create_titled(&ann, "before").await;
    worker.outbox_empties().await;
    delete_queue(vhost.name(), "task_created").await;
    let after = create_titled(&ann, "after").await;

    let bus = support::bus(&vhost.url());
    let ids = tokio::time::timeout(Duration::from_secs(30), received(&bus, 2)).await;
    let expected = [before, after].map(|task| format!("{}:1", task["id"].as_str().unwrap()));
    assert_eq!(ids.unwrap(), expected.into());
    worker.stop().await;
}
