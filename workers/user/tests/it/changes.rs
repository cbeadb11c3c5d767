//! `PATCH /me`, and the profile that others see.

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::Signed;

use crate::platform::{PASSWORD, Worker, pointers};

#[tokio::test]
async fn a_patch_changes_what_it_names_and_makes_a_new_version() {
    let worker = Worker::start().await;
    let tokens = worker.join("ada@example.org").await;
    let ada = worker.caller(&tokens);
    let patch = async |body: Value| {
        let request = ada.patch("/api/users/me").json(&body);
        request.send().await.expect(200)
    };
    let named = patch(json!({"name": " Ada Lovelace "})).await;
    assert_eq!(named.header("etag"), Some("\"2\""));
    let user = named.json();
    assert_eq!(user["name"], "Ada Lovelace");
    assert_eq!(user["email"], "ada@example.org");
    assert!(user["updated_at"].as_str() > user["created_at"].as_str());

    let moved = patch(json!({"email": "Ada@BÜCHER.example", "name": "Ada"})).await;
    assert_eq!(moved.header("etag"), Some("\"3\""));
    assert_eq!(moved.json()["email"], "Ada@xn--bcher-kva.example");
    worker.login("ada@example.org", PASSWORD).await.expect(401);
    worker
        .login("ada@bücher.example", PASSWORD)
        .await
        .expect(200);
    worker.register("ada@example.org").await.expect(201);

    for nothing in [json!({}), json!({"name": "Ada"})] {
        let same = patch(nothing).await;
        assert_eq!(same.header("etag"), Some("\"3\""));
        assert_eq!(same.json(), moved.json());
    }
    let me = ada.get("/api/users/me").send().await.expect(200);
    assert_eq!(me.json(), moved.json());
}

#[tokio::test]
async fn a_patch_that_is_wrong_is_told_all_of_it_and_changes_nothing() {
    let worker = Worker::start().await;
    let tokens = worker.join("ada@example.org").await;
    let ada = worker.caller(&tokens);
    for (body, wrong) in [
        (
            json!({"name": null, "email": null}),
            vec!["/email", "/name"],
        ),
        (json!({"name": "", "email": "ada"}), vec!["/email", "/name"]),
        (
            json!({"password": "x", "id": "y"}),
            vec!["/id", "/password"],
        ),
        (json!([]), vec![""]),
    ] {
        let request = ada.patch("/api/users/me").json(&body);
        assert_eq!(pointers(&request.send().await.expect(422)), wrong);
    }
    let merge = ada
        .patch("/api/users/me")
        .header("content-type", "application/merge-patch+json");
    merge.json(&json!({})).send().await.expect(200);
    let text = ada
        .patch("/api/users/me")
        .header("content-type", "text/plain");
    text.json(&json!({})).send().await.expect(415);
    let me = ada.get("/api/users/me").send().await.expect(200);
    assert_eq!(me.json(), tokens["user"]);
}

#[tokio::test]
async fn a_condition_that_does_not_hold_is_412() {
    let worker = Worker::start().await;
    let ada = worker.caller(&worker.join("ada@example.org").await);
    let patch = |name: &str, tag: &str| {
        let body = json!({"name": name});
        let request = ada.patch("/api/users/me").header("if-match", tag);
        request.json(&body).send()
    };
    patch("One", "\"1\"").await.expect(200);
    let refused = patch("Two", "\"1\"").await.expect(412);
    assert_eq!(refused.json()["type"], "/problems/precondition-failed");
    // Even a patch that would change nothing is refused.
    patch("One", "\"1\"").await.expect(412);
    patch("Two", "*").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_patches_are_all_kept_one_after_the_other() {
    let worker = Worker::start().await;
    let replica = worker.replica().await;
    let tokens = worker.join("ada@example.org").await;
    let callers = [worker.caller(&tokens), replica.caller(&tokens)];
    let patches = join_all((0..10).map(|n| {
        let body = json!({"name": format!("Ada {n}")});
        let request = callers[n % 2].patch("/api/users/me").json(&body);
        request.send()
    }));
    let mut tags: Vec<_> = patches
        .await
        .into_iter()
        .map(|reply| {
            let tag = reply.expect(200).header("etag").unwrap().to_owned();
            tag.trim_matches('"').parse::<u64>().unwrap()
        })
        .collect();
    tags.sort_unstable();
    assert_eq!(tags, (2..=11).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_address_that_is_taken_is_a_conflict_and_one_of_two_wins() {
    let worker = Worker::start().await;
    let ada = worker.caller(&worker.join("ada@example.org").await);
    let eve = worker.caller(&worker.join("eve@example.org").await);
    let patch = |who: &Signed, email: &str| {
        let who = who.clone();
        let body = json!({"email": email});
        async move { who.patch("/api/users/me").json(&body).send().await }
    };
    let refused = patch(&eve, "ADA@example.org").await.expect(409);
    assert_eq!(refused.json()["type"], "/problems/conflict");
    let both = join_all([
        patch(&ada, "new@example.org"),
        patch(&eve, "New@example.org"),
    ])
    .await;
    let mut statuses: Vec<_> = both.iter().map(|reply| reply.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
}

#[tokio::test]
async fn others_see_id_and_name_and_nothing_else() {
    let worker = Worker::start().await;
    let ada = worker.join("ada@example.org").await;
    let eve = worker.caller(&worker.join("eve@example.org").await);
    let id = ada["user"]["id"].as_str().unwrap();
    let path = format!("/api/users/{id}");
    let profile = eve.get(&path).send().await.expect(200);
    assert_eq!(profile.json(), json!({"id": id, "name": "Ada"}));
    let tag = profile.header("etag").unwrap();
    let known = eve.get(&path).header("if-none-match", tag);
    known.send().await.expect(304);
    for nobody in ["nobody", "01a20646-ee16-7c9f-8a7b-000000000000"] {
        let path = format!("/api/users/{nobody}");
        let missing = eve.get(&path).send().await.expect(404);
        assert_eq!(missing.json()["type"], "/problems/not-found");
    }
    worker.gateway.get(&path).send().await.expect(401);
}
