//! From a request to the queues: every change has one event, and none is lost, whatever breaks.

use contract::event::{Envelope, EventType};
use events::bus::conformance::{TASK_QUEUES, declared};
use events::outbox::Outbox;
use serde_json::json;
use tasks::store::TaskStore;
use testkit::{RabbitMq, shared_mongodb};

use crate::conformance::{insert, new};
use crate::support::{Worker, broker, bus, create_titled, path, store};

#[tokio::test]
async fn a_created_task_is_in_its_queue_with_the_stored_event() {
    let worker = Worker::start().await;
    let ann = worker.as_user("ann");
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = ann
        .post("/api/tasks")
        .json(&json!({"title": "x"}))
        .header("traceparent", trace);
    let task = request.send().await.expect(201).json();
    let history = ann
        .get(&(path(&task) + "/events"))
        .send()
        .await
        .expect(200)
        .json();
    let events = worker.events().await;
    let [event] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(event.event_type, EventType::TaskCreated);
    assert_eq!(event.id, format!("{}:1", task["id"].as_str().unwrap()));
    assert_eq!(
        event.data,
        json!({"task": task, "changed": [], "actor_id": "ann"})
    );
    assert_eq!(event.traceparent.as_deref(), Some(trace));
    assert_eq!(history["items"], json!([event]));
}

#[tokio::test]
async fn update_and_delete_give_their_events_and_a_change_of_nothing_gives_none() {
    let worker = Worker::start().await;
    let ann = worker.as_user("ann");
    let task = create_titled(&ann, "x").await;
    for title in ["x", "y", "y"] {
        ann.patch(&path(&task))
            .json(&json!({"title": title}))
            .send()
            .await
            .expect(200);
    }
    ann.delete(&path(&task)).send().await.expect(204);
    let mut events = worker.events().await;
    events.sort_by_key(|event| event.time);
    let types: Vec<_> = events.iter().map(|event| event.event_type).collect();
    assert_eq!(types, TASK_QUEUES.map(|queue| queue.event_type));
}

#[tokio::test]
async fn parallel_updates_give_versions_without_gaps_and_one_event_each() {
    const UPDATES: usize = 16;
    let worker = Worker::start().await;
    let ann = worker.as_user("ann");
    let task = create_titled(&ann, "x").await;
    let updates = (0..UPDATES).map(|n| {
        let (ann, path) = (ann.clone(), path(&task));
        tokio::spawn(async move {
            let title = json!({"title": format!("by {n}")});
            let reply = ann.patch(&path).json(&title).send().await.expect(200);
            reply.json()["version"].as_u64().unwrap()
        })
    });
    let mut versions = Vec::new();
    for update in updates.collect::<Vec<_>>() {
        versions.push(update.await.unwrap());
    }
    versions.sort_unstable();
    assert_eq!(versions, (2..=UPDATES as u64 + 1).collect::<Vec<_>>());

    worker.outbox_empties().await;
    let history = ann
        .get(&(path(&task) + "/events?limit=100"))
        .send()
        .await
        .expect(200)
        .json();
    let ids = history["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["id"].as_str().unwrap().to_owned());
    let id = task["id"].as_str().unwrap();
    assert!(ids.eq((1..=UPDATES as u64 + 1).map(|version| format!("{id}:{version}"))));
    worker.stop().await;
}

#[tokio::test]
async fn while_rabbitmq_is_away_changes_are_answered_and_their_events_follow_in_order() {
    let mut rabbit = RabbitMq::start().await;
    declared(&bus(&rabbit.url()), "tasks").await;
    let mongo = shared_mongodb().await;
    let worker = Worker::with(&mongo.url(), &mongo.fresh_database(), &rabbit.url()).await;
    let ann = worker.as_user("ann");
    create_titled(&ann, "before").await;
    worker.outbox_empties().await;
    rabbit.settle().await;
    rabbit.kill();

    let task = create_titled(&ann, "0").await;
    for n in 1..=20 {
        let title = json!({"title": n.to_string()});
        ann.patch(&path(&task))
            .json(&title)
            .send()
            .await
            .expect(200);
    }
    worker
        .http
        .unsigned()
        .get("/readyz")
        .send()
        .await
        .expect(200);
    assert_eq!(worker.store.backlog().await.unwrap().subjects, 1);

    rabbit.restart().await;
    worker.outbox_empties().await;
    let (mut created, updated): (Vec<_>, Vec<_>) = worker
        .events()
        .await
        .into_iter()
        .partition(|e| e.event_type == EventType::TaskCreated);
    let id = task["id"].as_str().unwrap();
    assert!(
        updated
            .iter()
            .map(|e| e.id.clone())
            .eq((2..=21).map(|n| format!("{id}:{n}"))),
        "{updated:?}"
    );
    created.sort_by_key(|event| event.time);
    let titles: Vec<_> = created
        .iter()
        .map(|event| event.data["task"]["title"].clone())
        .collect();
    assert_eq!(titles, ["before", "0"]);
}

#[tokio::test]
async fn what_a_crash_left_behind_is_published_by_the_next_worker() {
    let rabbit = broker().await;
    let mongo = shared_mongodb().await;
    let database = mongo.fresh_database();
    // Stored by a worker that died before it published.
    let store = store(&mongo.url(), &database).await;
    store.prepare().await.unwrap();
    let task = insert(&store, "ann", new("x"), 0).await;
    let worker = Worker::with(&mongo.url(), &database, &rabbit.url()).await;
    let events = worker.events().await;
    let subjects: Vec<_> = events.iter().map(|event| event.subject.as_str()).collect();
    assert_eq!(subjects, [task.id.as_str()]);
}

#[tokio::test]
async fn a_draining_worker_publishes_what_it_has_answered() {
    let rabbit = broker().await;
    let mongo = shared_mongodb().await;
    let worker = Worker::with(&mongo.url(), &mongo.fresh_database(), &rabbit.url()).await;
    let ann = worker.as_user("ann");
    // The first publish opens the connection and declares the queues.
    create_titled(&ann, "x").await;
    worker.outbox_empties().await;
    create_titled(&ann, "y").await;
    let store = worker.store.clone();
    worker.stop().await;
    assert_eq!(store.backlog().await.unwrap().subjects, 0);
}

#[test]
fn every_type_of_event_has_an_example_in_the_documents_that_keeps_its_schema() {
    let page = include_str!("../../../../docs/events.md");
    let examples = page.split("```json\n").skip(1);
    let examples = examples.map(|rest| rest.split("```").next().unwrap());
    let mut shown = Vec::new();
    for example in examples {
        let event: Envelope = serde_json::from_str(example).unwrap();
        let schema = serde_json::from_str(event.event_type.schema()).unwrap();
        let whole = serde_json::from_str(example).unwrap();
        let problems: Vec<String> = jsonschema::validator_for(&schema)
            .unwrap()
            .iter_errors(&whole)
            .map(|why| format!("{}: {why}", why.instance_path))
            .collect();
        assert!(problems.is_empty(), "{}: {problems:?}", event.id);
        shown.push(event.event_type);
    }
    assert_eq!(shown, EventType::ALL);
}
