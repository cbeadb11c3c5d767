//! Sessions and accounts from creation to deletion, across the whole platform.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::{Client, Signed, eventually};

use crate::test_platform::{PASSWORD, SOON, TestPlatform, User};

async fn refresh(http: &Client, token: &str, status: u16) -> Value {
    let request = http.post("/api/users/refresh");
    let body = json!({"refresh_token": token});
    request.json(&body).send().await.expect(status).json()
}

fn text(object: &Value, name: &str) -> String {
    object[name].as_str().expect("a text").to_owned()
}

async fn list(test: &TestPlatform, user: &User, path: &str) -> Vec<Value> {
    let request = test.http().get(path).bearer(&user.token);
    let page = request.send().await.expect(200).json();
    page["items"].as_array().expect("a list").clone()
}

/// What a worker stores for a user, requested directly, without a gateway.
async fn kept(worker: SocketAddr, user: &User, path: &str) -> Vec<Value> {
    let worker = Signed::new(format!("http://{worker}")).as_user(&user.id);
    let page = worker.get(path).send().await.expect(200).json();
    page["items"].as_array().expect("a list").clone()
}

async fn create(test: &TestPlatform, user: &User, task: Value) -> String {
    let request = test.http().post("/api/tasks").bearer(&user.token);
    text(&request.json(&task).send().await.expect(201).json(), "id")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_refreshed_at_any_gateway_and_ends_with_its_logout() {
    let test = TestPlatform::start().await;
    let user = test.user().await;
    let [one, two] = [&test.gateways[0], &test.gateways[1]];
    let pair = refresh(two, &user.refresh_token, 200).await;
    let token = text(&pair, "access_token");
    one.get("/api/tasks")
        .bearer(&token)
        .send()
        .await
        .expect(200);

    let sessions = one
        .get("/api/users/me/sessions")
        .bearer(&token)
        .send()
        .await;
    let sessions = sessions.expect(200).json();
    assert_eq!(
        sessions["items"].as_array().map(Vec::len),
        Some(1),
        "{sessions}"
    );

    two.post("/api/users/logout")
        .bearer(&token)
        .send()
        .await
        .expect(204);
    refresh(one, &text(&pair, "refresh_token"), 401).await;
    one.get("/api/users/me")
        .bearer(&token)
        .send()
        .await
        .expect(401);
    // A new login works immediately.
    let credentials = json!({"email": user.email, "password": PASSWORD});
    let login = two.post("/api/users/login").json(&credentials).send().await;
    let token = text(&login.expect(200).json(), "access_token");
    one.get("/api/users/me")
        .bearer(&token)
        .send()
        .await
        .expect(200);
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_account_takes_everything_with_it_and_others_are_told() {
    let test = TestPlatform::start().await;
    let (gone, stays) = (test.user().await, test.user().await);
    let given = create(
        &test,
        &gone,
        json!({"title": "Given", "assignee_id": stays.id}),
    )
    .await;
    create(&test, &gone, json!({"title": "Own"})).await;
    let taken = create(
        &test,
        &stays,
        json!({"title": "Taken", "assignee_id": gone.id}),
    )
    .await;
    test.dependencies.drained().await;

    let request = test.http().delete("/api/users/me").bearer(&gone.token);
    let password = json!({"password": PASSWORD});
    request.json(&password).send().await.expect(204);
    let http = test.http();
    http.get("/api/users/me")
        .bearer(&gone.token)
        .send()
        .await
        .expect(401);
    refresh(http, &gone.refresh_token, 401).await;
    let path = format!("/api/users/{}", gone.id);
    http.get(&path)
        .bearer(&stays.token)
        .send()
        .await
        .expect(404);

    // No gateway accepts the token any more, so the workers are asked directly what is left.
    eventually(SOON, async || {
        let own = kept(test.platform.task_workers[0], &gone, "/api/tasks").await;
        let left = list(&test, &stays, "/api/tasks").await;
        let told = test.platform.notification_workers[0];
        let told = kept(told, &gone, "/api/notifications").await;
        let unassigned = left.len() == 1 && left[0]["assignee_id"].is_null();
        match own.is_empty() && told.is_empty() && unassigned {
            true => Ok(()),
            false => Err(format!("{own:?}\n{left:?}\n{told:?}")),
        }
    })
    .await;
    test.dependencies.drained().await;
    let told = test.platform.notification_workers[0];
    assert!(kept(told, &gone, "/api/notifications").await.is_empty());
    let told: BTreeSet<_> = list(&test, &stays, "/api/notifications")
        .await
        .iter()
        .map(|one| {
            (
                text(one, "task_id"),
                text(one, "type"),
                one["task_version"].as_u64(),
            )
        })
        .collect();
    let expected = [
        (&given, "task.created", 1),
        (&given, "task.deleted", 2),
        (&taken, "task.updated", 2),
    ];
    let expected =
        expected.map(|(task, kind, version)| (task.clone(), kind.to_owned(), Some(version)));
    assert_eq!(told, BTreeSet::from(expected));

    // The email address is free again, and a new account with it finds nothing of the old one.
    let account = json!({"email": gone.email, "password": PASSWORD, "name": "Another"});
    let new = http.post("/api/users/register").json(&account).send().await;
    assert_ne!(text(&new.expect(201).json(), "id"), gone.id);
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_posts_with_one_key_make_one_task_and_one_notification() {
    let test = TestPlatform::start().await;
    let user = test.user().await;
    let posts = (0..100).map(|n| {
        let request = test.gateways[n % 2].post("/api/tasks").bearer(&user.token);
        let request = request.header("idempotency-key", "5c1f2a9e-once");
        request.json(&json!({"title": "Once"})).send()
    });
    let answers = join_all(posts).await;
    let answers: BTreeSet<_> = answers
        .into_iter()
        .map(|reply| {
            let reply = reply.expect(201);
            let header = |name| reply.header(name).map(str::to_owned);
            (header("location"), header("etag"), reply.text())
        })
        .collect();
    assert_eq!(answers.len(), 1, "{answers:?}");

    let other = test.http().post("/api/tasks").bearer(&user.token);
    let other = other.header("idempotency-key", "5c1f2a9e-once");
    let other = other
        .json(&json!({"title": "Twice"}))
        .send()
        .await
        .expect(422);
    assert_eq!(other.json()["type"], "/problems/idempotency-mismatch");
    test.dependencies.drained().await;
    assert_eq!(list(&test, &user, "/api/tasks").await.len(), 1);
    assert_eq!(list(&test, &user, "/api/notifications").await.len(), 1);
    test.finish().await;
}
