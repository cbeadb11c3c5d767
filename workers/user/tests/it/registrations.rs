//! Registrations that are repeated with an `Idempotency-Key`.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::Reply;

use crate::platform::{PASSWORD, Worker};

fn ada() -> Value {
    json!({"email": "ada@example.org", "password": PASSWORD, "name": "Ada"})
}

async fn register(worker: &Worker, key: &str, body: &Value) -> Reply {
    let request = worker.gateway.post("/api/users/register");
    let request = request.header("idempotency-key", key);
    request.json(body).send().await
}

fn answer(reply: Reply) -> (Option<String>, Option<String>, String) {
    let reply = reply.expect(201);
    let header = |name| reply.header(name).map(str::to_owned);
    (header("location"), header("etag"), reply.text())
}

#[tokio::test]
async fn the_same_registration_has_the_same_answer_for_a_day() {
    let worker = Worker::start().await;
    let first = register(&worker, "k1", &ada()).await;
    assert_eq!(first.header("idempotent-replayed"), None);
    let first = answer(first);
    let again = register(&worker, "k1", &ada()).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(answer(again), first);
    assert_eq!(worker.documents("users").await.len(), 1);

    // The answer is the same after a login and a new name.
    let tokens = worker.login("ada@example.org", PASSWORD).await;
    let caller = worker.caller(&tokens.expect(200).json());
    let renamed = caller
        .patch("/api/users/me")
        .json(&json!({"name": "Countess"}));
    renamed.send().await.expect(200);
    worker.clock.advance(Duration::from_secs(24 * 3600 - 60));
    assert_eq!(answer(register(&worker, "k1", &ada()).await), first);

    worker.clock.advance(Duration::from_secs(60));
    register(&worker, "k1", &ada()).await.expect(409);
}

#[tokio::test]
async fn another_key_or_none_is_another_registration() {
    let worker = Worker::start().await;
    answer(register(&worker, "k1", &ada()).await);
    register(&worker, "k2", &ada()).await.expect(409);
    worker.register("ada@example.org").await.expect(409);
    // Each e-mail address has keys of its own.
    let mut eve = ada();
    eve["email"] = json!("eve@example.org");
    answer(register(&worker, "k1", &eve).await);
    let keyless = worker.register("bob@example.org").await.expect(201);
    assert_eq!(keyless.header("etag"), Some("\"1\""));
    let mut bob = ada();
    bob["email"] = json!("bob@example.org");
    register(&worker, "k1", &bob).await.expect(409);
}

#[tokio::test]
async fn the_same_key_for_something_else_is_a_mismatch() {
    let worker = Worker::start().await;
    answer(register(&worker, "k1", &ada()).await);
    for (member, other) in [
        ("password", "another good password"),
        ("name", "Eve"),
        ("email", "ADA@example.org"),
    ] {
        let mut body = ada();
        body[member] = json!(other);
        let refused = register(&worker, "k1", &body).await.expect(422);
        assert_eq!(refused.json()["type"], "/problems/idempotency-mismatch");
    }
    let bad = worker.gateway.post("/api/users/register").json(&ada());
    let bad = bad.header("idempotency-key", "a b").send().await;
    assert_eq!(
        bad.expect(400).json()["type"],
        "/problems/malformed-request"
    );
}

#[tokio::test]
async fn a_known_key_does_not_let_anybody_try_passwords() {
    let worker = Worker::start().await;
    answer(register(&worker, "k1", &ada()).await);
    let mut guess = ada();
    guess["password"] = json!("another good password");
    for _ in 0..10 {
        register(&worker, "k1", &guess).await.expect(422);
    }
    register(&worker, "k1", &guess).await.expect(429);
    // Registrations and logins share one limit.
    worker.login("ada@example.org", PASSWORD).await.expect(429);
}

#[tokio::test]
async fn after_another_password_it_cannot_be_told_whether_it_is_the_same() {
    let worker = Worker::start().await;
    answer(register(&worker, "k1", &ada()).await);
    let tokens = worker.login("ada@example.org", PASSWORD).await;
    let caller = worker.caller(&tokens.expect(200).json());
    let body = json!({"current_password": PASSWORD, "new_password": "a river runs through it"});
    let changed = caller.put("/api/users/me/password").json(&body);
    changed.send().await.expect(204);
    register(&worker, "k1", &ada()).await.expect(409);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_at_once_make_one_account_and_have_one_answer() {
    let one = Worker::start().await;
    let two = one.replica().await;
    let body = ada();
    let all = (0..50).flat_map(|_| [register(&one, "k1", &body), register(&two, "k1", &body)]);
    let replies = join_all(all).await;
    let new = replies
        .iter()
        .filter(|r| r.header("idempotent-replayed").is_none());
    // Requests that wait for the same work in the same worker share its answer.
    assert!(new.count() >= 1);
    let answers: HashSet<_> = replies.into_iter().map(answer).collect();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(one.documents("users").await.len(), 1);
    one.login("ada@example.org", PASSWORD).await.expect(200);
    let stored = format!("{:?}", one.documents("users").await);
    assert!(!stored.contains(PASSWORD));
}
