//! Deleting an account, and the event for other workers.
#![expect(clippy::unwrap_used, reason = "in a test suite a failure is a panic")]

use std::time::Duration;

use contract::event::{Envelope, EventType, UserDeleted};
use contract::id::UserId;
use events::bus::conformance::{NOTIFICATION_USER_DELETED, TASK_USER_DELETED, declared, topology};
use events::bus::{Bus, Queue};
use events::outbox::Outbox;
use futures_util::future::join_all;
use rabbitmq::RabbitBus;
use runtime::secret::Secret;
use runtime::time::{Clock, SystemClock};
use serde_json::{Value, json};
use testkit::{RabbitMq, Reply, eventually, shared_rabbitmq};
use users_mongo::MongoUserStore;

use crate::platform::{PASSWORD, Worker, fresh_config, pointers};

const QUEUES: [Queue; 2] = [TASK_USER_DELETED, NOTIFICATION_USER_DELETED];

async fn delete(worker: &Worker, tokens: &Value, password: &str) -> Reply {
    let body = json!({"password": password});
    let caller = worker.caller(tokens);
    caller.delete("/api/users/me").json(&body).send().await
}

async fn worker_with_broker(amqp_url: &str) -> Worker {
    let mut config = fresh_config().await;
    config.worker.amqp_url = Secret::new(amqp_url);
    let worker = Worker::with(config).await;
    eventually(Duration::from_secs(10), || worker.is_ready()).await;
    worker
}

async fn outbox_empties(worker: &Worker) {
    let store = MongoUserStore::connect(&worker.config.worker.mongo)
        .await
        .unwrap();
    eventually(Duration::from_secs(60), || async {
        store.backlog().await.unwrap().subjects == 0
    })
    .await;
}

/// Stops the worker and gives all events in both queues, duplicates included.
async fn events(worker: Worker) -> [Vec<Envelope>; 2] {
    outbox_empties(&worker).await;
    let url = worker.config.worker.amqp_url.clone();
    worker.stop().await;
    let bus = RabbitBus::new(&url, topology()).unwrap();
    // Nobody else publishes any more, so the marker is behind every other event.
    let marker = UserDeleted {
        user_id: UserId::new(),
        at: SystemClock.now(),
    };
    let marker = marker.event("/test", 1);
    bus.publish(std::slice::from_ref(&marker)).await.unwrap();
    let mut all = [Vec::new(), Vec::new()];
    for (queue, events) in QUEUES.into_iter().zip(&mut all) {
        let mut subscription = bus.subscribe(&[queue], 100).await.unwrap();
        while events.last() != Some(&marker) {
            let batch = subscription.next_batch(100).await.unwrap();
            subscription.ack(&batch).await.unwrap();
            let read = |body: &[u8]| Envelope::read(body, EventType::UserDeleted).unwrap();
            events.extend(batch.iter().map(|delivery| read(&delivery.body)));
        }
        events.pop();
    }
    all
}

#[tokio::test]
async fn a_deleted_account_is_gone_with_its_sessions_and_leaves_nothing_personal() {
    let worker = Worker::start().await;
    let replica = worker.replica().await;
    let ada = worker.join("ada.lovelace@example.org").await;
    let login = worker.login("ada.lovelace@example.org", PASSWORD).await;
    let other = login.expect(200).json();
    let eve = worker.join("eve@example.org").await;
    let reply = delete(&worker, &ada, PASSWORD).await.expect(204);
    assert!(reply.body.is_empty());

    for tokens in [&ada, &other] {
        assert_eq!(replica.me(tokens).await, 401);
        replica.refresh(tokens).await.expect(401);
    }
    delete(&replica, &ada, PASSWORD).await.expect(401);
    let gone = replica.login("ada.lovelace@example.org", PASSWORD).await;
    gone.expect(401);
    let id = ada["user"]["id"].as_str().unwrap();
    let path = format!("/api/users/{id}");
    let profile = replica.caller(&eve).get(&path).send().await;
    profile.expect(404);

    let kept = worker.documents("users").await;
    let tombstone = kept.iter().find(|user| user.get_str("_id").unwrap() == id);
    let tombstone = format!("{:?}", tombstone.unwrap());
    for personal in ["lovelace", "\"Ada\"", "argon2", "example"] {
        assert!(!tombstone.contains(personal), "{tombstone}");
    }
    let ended = worker.documents("sessions").await;
    let ended = ended.iter().filter(|s| s.contains_key("ended_at"));
    assert_eq!(ended.count(), 2);

    // The address is free, and its new account is another user.
    let next = worker.join("ada.lovelace@example.org").await;
    assert_ne!(next["user"]["id"], ada["user"]["id"]);
    assert_eq!(worker.me(&ada).await, 401);
    delete(&worker, &next, PASSWORD).await.expect(204);
}

#[tokio::test]
async fn an_account_is_deleted_by_who_knows_its_password_only() {
    let worker = Worker::start().await;
    let ada = worker.join("ada@example.org").await;
    let refused = delete(&worker, &ada, "not the right password").await;
    assert_eq!(pointers(&refused.expect(422)), ["/password"]);
    let caller = worker.caller(&ada);
    let without = caller.delete("/api/users/me").json(&json!({}));
    assert_eq!(pointers(&without.send().await.expect(422)), ["/password"]);
    caller.delete("/api/users/me").send().await.expect(415);
    assert_eq!(worker.me(&ada).await, 200);
}

#[tokio::test]
async fn each_consumer_is_told_once_of_each_deleted_account() {
    let vhost = shared_rabbitmq().await.fresh_vhost().await;
    let bus = RabbitBus::new(&Secret::new(vhost.url()), topology()).unwrap();
    declared(&bus, "users").await;
    let worker = worker_with_broker(&vhost.url()).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let ada = worker.join("ada@example.org").await;
    let caller = worker.caller(&ada);
    let renamed = caller
        .patch("/api/users/me")
        .json(&json!({"name": "Countess"}));
    renamed.send().await.expect(200);
    let deleted = caller.delete("/api/users/me").header("traceparent", trace);
    let deleted = deleted.json(&json!({"password": PASSWORD}));
    deleted.send().await.expect(204);
    let eve = worker.join("eve@example.org").await;
    outbox_empties(&worker).await;
    let deletions = join_all((0..5).map(|_| delete(&worker, &eve, PASSWORD)));
    let mut statuses: Vec<_> = deletions.await.iter().map(|r| r.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 401, 401, 401, 401]);

    let all = events(worker).await;
    assert_eq!(all[0], all[1]);
    let [first, second] = &all[0][..] else {
        panic!("{all:?}")
    };
    let id = |tokens: &Value| tokens["user"]["id"].as_str().unwrap().to_owned();
    assert_eq!(first.id, format!("{}:3", id(&ada)));
    assert_eq!(first.traceparent.as_deref(), Some(trace));
    assert_eq!(second.id, format!("{}:2", id(&eve)));
    let schema: Value = serde_json::from_str(EventType::UserDeleted.schema()).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    for event in [first, second] {
        assert_eq!(event.source, "/services/user");
        let event = serde_json::to_value(event).unwrap();
        assert!(schema.is_valid(&event), "{event}");
        assert!(!event.to_string().contains("example"));
    }
}

#[tokio::test]
async fn while_rabbitmq_is_away_everything_works_and_the_event_follows() {
    let mut rabbit = RabbitMq::start().await;
    // The queues exist beforehand, so that they receive what is published later.
    let bus = RabbitBus::new(&Secret::new(rabbit.url()), topology()).unwrap();
    declared(&bus, "users").await;
    rabbit.settle().await;
    rabbit.kill();
    let worker = worker_with_broker(&rabbit.url()).await;
    let ready = worker.gateway.unsigned().get("/readyz").send().await;
    let ready = ready.expect(200).json();
    assert_eq!(ready["dependencies"][1]["name"], "rabbitmq");
    assert_eq!(ready["dependencies"][1]["ok"], false);
    let ada = worker.join("ada@example.org").await;
    delete(&worker, &ada, PASSWORD).await.expect(204);
    assert_eq!(worker.me(&ada).await, 401);

    rabbit.restart().await;
    let all = events(worker).await;
    for queue in &all {
        let subjects: Vec<_> = queue.iter().map(|event| event.subject.as_str()).collect();
        assert_eq!(subjects, [ada["user"]["id"].as_str().unwrap()]);
    }
}

#[tokio::test]
async fn an_account_that_has_changed_since_is_not_deleted() {
    let worker = Worker::start().await;
    let tokens = worker.join("ada@example.org").await;
    let caller = worker.caller(&tokens);
    let delete = async |etag: &str| {
        let request = caller.delete("/api/users/me").header("if-match", etag);
        request.json(&json!({"password": PASSWORD})).send().await
    };
    delete("\"7\"").await.expect(412);
    assert_eq!(worker.me(&tokens).await, 200);
    delete("\"1\"").await.expect(204);
}
