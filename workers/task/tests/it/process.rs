//! The worker's binary, killed while it erases a user and started again.

use std::time::Duration;

use bson::{Document, doc};
use contract::page::PageRequest;
use events::bus::Bus;
use futures_util::{StreamExt, stream};
use tasks::store::{Filter, Sort, TaskStore};
use tasks_mongo::MongoTaskStore;
use testkit::{
    ChaosProxy, GATEWAY_KEYS, Process, Signed, eventually, free_port, shared_mongodb,
    shared_rabbitmq,
};

use crate::conformance::{insert, new, user};
use crate::erasure::deleted;
use crate::support;

const TASKS: usize = 1_100;

async fn has_tasks(store: &MongoTaskStore) -> bool {
    let first = PageRequest {
        limit: 1,
        after: None,
    };
    let filter = Filter::of(user("ann"));
    let page = store.list(&filter, Sort::default(), &first).await.unwrap();
    !page.items.is_empty()
}

#[tokio::test]
async fn a_worker_that_is_killed_while_it_erases_a_user_finishes_when_it_is_back() {
    let rabbit = shared_rabbitmq().await.fresh_vhost().await;
    let mongo = shared_mongodb().await;
    let database = mongo.fresh_database();
    let store = support::store(&mongo.url(), &database).await;
    store.prepare().await.unwrap();
    let tasks: Vec<_> = stream::iter(0..TASKS)
        .map(|n| insert(&store, "ann", new(&n.to_string()), n as i64))
        .buffer_unordered(32)
        .collect()
        .await;

    // An open transaction holds the task that the eraser reaches last, so the erasure cannot finish.
    let oldest = tasks.iter().min_by_key(|task| task.created_at).unwrap();
    let client = mongodb::Client::with_uri_str(mongo.url()).await.unwrap();
    let mut held = client.start_session().await.unwrap();
    held.start_transaction().await.unwrap();
    let documents = client.database(&database).collection::<Document>("tasks");
    documents
        .update_one(doc! {"_id": oldest.id.as_str()}, doc! {"$set": {"held": 1}})
        .session(&mut held)
        .await
        .unwrap();

    // Slow enough that the kill comes in the middle of the erasure.
    let mut network = ChaosProxy::start(mongo.address()).await;
    network.latency(Duration::from_millis(15)).await;
    let listen = format!("127.0.0.1:{}", free_port());
    let mut process = Process::named("task-worker")
        .program(env!("CARGO_BIN_EXE_task-worker"))
        .env("LISTEN", &listen)
        .env("GATEWAY_SIGNING_KEYS", GATEWAY_KEYS)
        .env("MONGODB_URI", mongo.url_at(network.address()))
        .env("MONGODB_DATABASE", &database)
        .env("AMQP_URL", rabbit.url())
        .env("DRAIN_LAME_DUCK", "1ms")
        .start();
    support::ready(&Signed::new(format!("http://{listen}"))).await;
    let bus = support::bus(&rabbit.url());
    bus.publish(&[deleted("ann")]).await.unwrap();
    let newest = tasks.iter().max_by_key(|task| task.created_at).unwrap();
    eventually(Duration::from_secs(30), async || {
        store.get(&newest.id).await.unwrap().is_none()
    })
    .await;
    process.kill9();
    assert!(has_tasks(&store).await);

    held.abort_transaction().await.unwrap();
    network.restore().await;
    process.start_again();
    eventually(Duration::from_secs(60), async || !has_tasks(&store).await).await;
    process.terminate(Duration::from_secs(30)).await;
    let all = PageRequest {
        limit: 100,
        after: None,
    };
    for task in tasks {
        let events = store.history(&task.id, &all).await.unwrap().items;
        let ids: Vec<_> = events.into_iter().map(|event| event.id).collect();
        assert_eq!(ids, [format!("{}:1", task.id), format!("{}:2", task.id)]);
    }
}
