//! Registration, `GET /me`, public keys, and who may call.

use futures_util::future::join_all;
use serde_json::json;

use crate::platform::{PASSWORD, Worker};

#[tokio::test]
async fn a_registered_user_is_answered_with_location_and_tag_and_reads_itself() {
    let worker = Worker::start().await;
    let created = worker.register(" Ada@Bücher.Example ").await.expect(201);
    let user = created.json();
    assert_eq!(user["email"], "Ada@xn--bcher-kva.example");
    assert_eq!(user["name"], "Ada");
    assert_eq!(user["created_at"], user["updated_at"]);
    let mut members: Vec<_> = user.as_object().unwrap().keys().collect();
    members.sort();
    assert_eq!(members, ["created_at", "email", "id", "name", "updated_at"]);
    let id = user["id"].as_str().unwrap();
    assert_eq!(
        created.header("location"),
        Some(&*format!("/api/users/{id}"))
    );

    let login = worker.login("ada@xn--bcher-kva.example", PASSWORD).await;
    let ada = worker.caller(&login.expect(200).json());
    let me = ada.get("/api/users/me").send().await.expect(200);
    assert_eq!(me.json(), user);
    let tag = me.header("etag").unwrap();
    assert_eq!(created.header("etag"), Some(tag));
    let again = ada
        .get("/api/users/me")
        .header("if-none-match", tag)
        .send()
        .await
        .expect(304);
    assert!(again.body.is_empty());
    let head = ada.head("/api/users/me").send().await.expect(200);
    assert!(head.body.is_empty());
    worker.stop().await;
}

#[tokio::test]
async fn one_address_in_another_spelling_is_taken() {
    let worker = Worker::start().await;
    worker.register("ada@bücher.example").await.expect(201);
    for spelling in [
        "ADA@bücher.example",
        " ada@xn--bcher-kva.EXAMPLE ",
        "ada@bu\u{308}cher.example",
    ] {
        let problem = worker.register(spelling).await.expect(409);
        assert_eq!(
            problem.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(problem.json()["type"], "/problems/conflict");
    }
}

#[tokio::test]
async fn of_twenty_parallel_registrations_of_one_address_one_succeeds() {
    let worker = Worker::start().await;
    let replies = join_all((0..20).map(|_| worker.register("ada@example.org"))).await;
    let mut statuses: Vec<_> = replies.iter().map(|reply| reply.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses[0], 201);
    assert_eq!(statuses[1..], [409; 19]);
    assert_eq!(worker.documents("users").await.len(), 1);
}

#[tokio::test]
async fn everything_that_is_wrong_with_a_registration_is_said_at_once() {
    let worker = Worker::start().await;
    let body = json!({"email": "ada", "password": "password123", "name": " ", "admin": true});
    let problem = worker
        .gateway
        .post("/api/users/register")
        .json(&body)
        .send()
        .await
        .expect(422);
    let problem = problem.json();
    assert_eq!(problem["type"], "/problems/validation-failed");
    let errors = problem["errors"].as_array().unwrap();
    let mut pointers: Vec<_> = errors
        .iter()
        .map(|e| e["pointer"].as_str().unwrap())
        .collect();
    pointers.sort_unstable();
    assert_eq!(pointers, ["/admin", "/email", "/name", "/password"]);
    for password in ["ninechars", &"x1".repeat(65)] {
        let body = json!({"email": "ada@example.org", "password": password, "name": "Ada"});
        worker
            .gateway
            .post("/api/users/register")
            .json(&body)
            .send()
            .await
            .expect(422);
    }
    assert!(worker.documents("users").await.is_empty());
}

#[tokio::test]
async fn nobody_but_the_gateway_is_answered() {
    let worker = Worker::start().await;
    let stranger = worker.gateway.unsigned();
    let user = json!({"email": "ada@example.org", "password": PASSWORD, "name": "Ada"});
    let id = worker.register("ada@example.org").await.expect(201).json()["id"].clone();
    let id = id.as_str().unwrap();
    for request in [
        stranger.post("/api/users/register").json(&user),
        stranger.post("/api/users/login").json(&user),
        stranger.get("/api/users/me"),
        stranger.get("/api/users/me").header("x-user-id", id),
        stranger.get("/api/users/nothing"),
        // Signed without a user, with an identity added afterwards.
        worker.gateway.get("/api/users/me").header("x-user-id", id),
        worker.gateway.get("/api/users/me"),
    ] {
        let problem = request.send().await.expect(401);
        assert_eq!(problem.json()["type"], "/problems/unauthenticated");
        assert!(problem.header("www-authenticate").is_some());
    }
}

#[tokio::test]
async fn the_public_keys_need_no_signature_and_hold_nothing_private() {
    let worker = Worker::start().await;
    let keys = worker
        .gateway
        .unsigned()
        .get("/.well-known/jwks.json")
        .send()
        .await
        .expect(200);
    let key = &keys.json()["keys"][0];
    assert_eq!(key["kid"], "t1");
    assert_eq!(key["alg"], "EdDSA");
    assert!(key.get("d").is_none());
    worker
        .gateway
        .get("/.well-known/jwks.json")
        .send()
        .await
        .expect(200);
}

#[tokio::test]
async fn wrong_methods_are_told_which_are_right() {
    let worker = Worker::start().await;
    let refused = worker
        .gateway
        .get("/api/users/login")
        .send()
        .await
        .expect(405);
    assert_eq!(refused.header("allow"), Some("POST, OPTIONS"));
    let metrics = worker
        .gateway
        .unsigned()
        .get("/metrics")
        .send()
        .await
        .expect(200);
    assert!(
        metrics
            .text()
            .contains(r#"route="/api/users/login",status="405",worker="user""#),
        "{}",
        metrics.text()
    );
}
