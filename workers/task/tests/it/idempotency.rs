//! `Idempotency-Key`: a POST that is sent again happens once, however its first answer was lost.

use std::time::Duration;

use contract::event::EventType;
use serde_json::{Value, json};
use testkit::{ChaosProxy, Reply, Signed, eventually, shared_mongodb};

use crate::support::{Worker, broker, create_titled, path};

async fn post(user: &Signed, collection: &str, key: &str, body: &Value) -> Reply {
    let request = user.post(collection).header("idempotency-key", key);
    request.json(body).send().await
}

/// Everything by which a client can tell two answers apart.
fn answer(reply: &Reply) -> (u16, Option<&str>, Option<&str>, Option<&str>, &[u8]) {
    let header = |name| reply.header(name);
    let (location, etag) = (header("location"), header("etag"));
    let status = reply.status.as_u16();
    (status, location, etag, header("content-type"), &reply.body)
}

async fn titles(user: &Signed) -> Vec<Value> {
    let page = user.get("/api/tasks?limit=100").send().await.expect(200);
    let items = page.json()["items"].as_array().unwrap().clone();
    items
        .into_iter()
        .map(|task| task["title"].clone())
        .collect()
}

#[tokio::test]
async fn the_same_request_gets_the_first_answer_whatever_became_of_the_task() {
    let worker = Worker::start().await;
    let ann = worker.as_user("ann");
    for collection in ["/api/tasks", "/api/tasks/upload"] {
        let body = json!({"title": "ß", "description": "\"\\\n\u{1F331}", "tags": ["a"]});
        let first = post(&ann, collection, "k1", &body).await.expect(201);
        assert_eq!(first.header("idempotent-replayed"), None);
        let task = path(&first.json());
        let again = async || {
            let again = post(&ann, collection, "\"k1\"", &body).await;
            assert_eq!(answer(&again), answer(&first));
            assert_eq!(again.header("idempotent-replayed"), Some("true"));
        };
        again().await;
        let done = json!({"status": "done", "description": null});
        ann.patch(&task).json(&done).send().await.expect(200);
        again().await;
        ann.delete(&task).send().await.expect(204);
        again().await;
        worker.outbox_empties().await;
        again().await;
    }
    assert!(titles(&ann).await.is_empty());
    worker.stop().await;
}

#[tokio::test]
async fn a_key_stands_for_one_body_of_one_user_on_one_path() {
    let worker = Worker::start().await;
    let ann = worker.as_user("ann");
    let body = json!({"title": "x", "tags": ["a"]});
    let first = post(&ann, "/api/tasks", "k", &body).await.expect(201);
    let spelt_otherwise = ann
        .post("/api/tasks/")
        .header("idempotency-key", "k")
        .header("content-type", "application/json")
        .body(r#" {"tags":["\u0061"], "title" :"x"} "#);
    let again = spelt_otherwise.send().await.expect(201);
    assert_eq!(answer(&again), answer(&first));

    let other = post(&ann, "/api/tasks", "k", &json!({"title": "x"})).await;
    assert_eq!(
        other.expect(422).json()["type"],
        "/problems/idempotency-mismatch"
    );
    let elsewhere = post(&ann, "/api/tasks/upload", "k", &body)
        .await
        .expect(201);
    assert_ne!(elsewhere.json()["id"], first.json()["id"]);
    let bob = worker.as_user("bob");
    let bobs = post(&bob, "/api/tasks", "k", &body).await.expect(201);
    assert_eq!(bobs.json()["owner_id"], "bob");
    assert_eq!(titles(&bob).await.len(), 1);
    assert_eq!(titles(&ann).await.len(), 2);
    worker.stop().await;
}

#[tokio::test]
async fn a_refused_request_uses_up_no_key() {
    let worker = Worker::start().await;
    let ann = worker.as_user("ann");
    let wrong = post(&ann, "/api/tasks", "k", &json!({"titel": "x"})).await;
    assert_eq!(
        wrong.expect(422).json()["type"],
        "/problems/validation-failed"
    );
    let right = post(&ann, "/api/tasks", "k", &json!({"title": "x"})).await;
    right.expect(201);
    for bad in ["", "a b", &"k".repeat(256)] {
        post(&ann, "/api/tasks", bad, &json!({"title": "y"}))
            .await
            .expect(400);
    }
    let twice = ann.post("/api/tasks").json(&json!({"title": "y"}));
    let twice = twice
        .header("idempotency-key", "a")
        .header("idempotency-key", "a");
    twice.send().await.expect(400);
    assert_eq!(titles(&ann).await, ["x"]);
    worker.stop().await;
}

#[tokio::test]
async fn a_hundred_at_once_over_two_workers_make_one_task_one_event_and_one_answer() {
    let rabbit = broker().await;
    let mongo = shared_mongodb().await;
    let database = mongo.fresh_database();
    let one = Worker::with(&mongo.url(), &database, &rabbit.url()).await;
    let two = Worker::with(&mongo.url(), &database, &rabbit.url()).await;
    let posts = (0..100).map(|n| {
        let worker = if n % 2 == 0 { &one } else { &two };
        let ann = worker.as_user("ann");
        tokio::spawn(async move { post(&ann, "/api/tasks", "k", &json!({"title": "x"})).await })
    });
    let mut answers = Vec::new();
    for post in posts.collect::<Vec<_>>() {
        answers.push(post.await.unwrap().expect(201));
    }
    let replayed = |reply: &&Reply| reply.header("idempotent-replayed").is_some();
    assert_eq!(answers.iter().filter(replayed).count(), 99);
    let different = answers
        .iter()
        .find(|reply| answer(reply) != answer(&answers[0]));
    assert!(different.is_none(), "{different:?} and {:?}", answers[0]);
    assert_eq!(titles(&one.as_user("ann")).await, ["x"]);
    two.stop().await;
    let events = one.events().await;
    let ids: Vec<_> = events.iter().map(|event| event.id.clone()).collect();
    let id = answers[0].json()["id"].as_str().unwrap().to_owned();
    assert_eq!(ids, [format!("{id}:1")]);
    assert_eq!(events[0].event_type, EventType::TaskCreated);
}

#[tokio::test]
async fn when_the_answer_is_lost_the_next_try_gets_it() {
    let worker = Worker::start().await;
    let address = worker.address;
    let mut network = ChaosProxy::start(address).await;
    // Long enough that the task can be seen before its answer arrives.
    network.latency(Duration::from_secs(2)).await;
    let through = Signed::new(format!("http://{}", network.address())).as_user("ann");
    let body = json!({"title": "x"});
    let lost = {
        let (through, body) = (through.clone(), body.clone());
        tokio::spawn(async move {
            let request = through.post("/api/tasks").header("idempotency-key", "k");
            request.json(&body).try_send().await
        })
    };
    let ann = worker.as_user("ann");
    eventually(Duration::from_secs(20), async || {
        titles(&ann).await.len() == 1
    })
    .await;
    network.cut().await;
    assert!(lost.await.unwrap().is_err());

    network.restore().await;
    let retried = post(&through, "/api/tasks", "k", &body).await.expect(201);
    assert_eq!(retried.header("idempotent-replayed"), Some("true"));
    let task = ann.get(&path(&retried.json())).send().await.expect(200);
    assert_eq!(task.json(), retried.json());
    assert_eq!(titles(&ann).await, ["x"]);
    assert_eq!(worker.events().await.len(), 1);
}

#[tokio::test]
async fn when_nobody_knows_whether_it_was_stored_the_next_try_makes_no_second_task() {
    let rabbit = broker().await;
    let mongo = shared_mongodb().await;
    let mut network = ChaosProxy::start(mongo.address()).await;
    let url = mongo.url_at(network.address());
    let worker = Worker::with(&url, &mongo.fresh_database(), &rabbit.url()).await;
    let ann = worker.as_user("ann");
    create_titled(&ann, "before").await;

    // The write arrives when the network is back, which is after its request was answered.
    network.blackhole().await;
    let body = json!({"title": "x"});
    let unknown = post(&ann, "/api/tasks", "k", &body).await.expect(503);
    assert!(unknown.header("retry-after").is_some());
    network.restore().await;
    let first = eventually(Duration::from_secs(30), async || {
        let reply = post(&ann, "/api/tasks", "k", &body).await;
        match reply.status.as_u16() {
            503 => Err(reply.text()),
            _ => Ok(reply.expect(201)),
        }
    })
    .await;
    let again = post(&ann, "/api/tasks", "k", &body).await.expect(201);
    assert_eq!(answer(&again), answer(&first));
    assert_eq!(titles(&ann).await, ["x", "before"]);
    worker.stop().await;
}
