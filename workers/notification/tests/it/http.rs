//! The HTTP side, as the gateway calls it.

use serde_json::{Value, json};
use shared::testing::Signed;

use crate::stage::{Stage, Task, Worker};

/// A worker, and an owner who has three notifications of one task.
async fn scene() -> (Worker, Signed, Task, Vec<Value>) {
    let stage = Stage::new().await;
    let task = Task::new();
    let entries: Vec<_> = (1..=3).map(|version| task.entry(version)).collect();
    stage
        .store()
        .await
        .apply(&entries, task.born)
        .await
        .expect("applied");
    let worker = stage.worker().await;
    let user = worker.http.as_user(task.owner.as_str());
    let items = list(&user, "").await;
    (worker, user, task, items)
}

async fn list(user: &Signed, query: &str) -> Vec<Value> {
    let reply = user
        .get(&format!("/api/notifications{query}"))
        .send()
        .await
        .expect(200);
    reply.json()["items"].as_array().expect("a list").clone()
}

async fn unread(user: &Signed) -> Value {
    let reply = user.get("/api/notifications/unread-count").send().await;
    reply.expect(200).json()["count"].clone()
}

#[tokio::test]
async fn notifications_are_listed_latest_first_and_in_pages() {
    let (_worker, user, task, items) = scene().await;
    let versions: Vec<_> = items
        .iter()
        .map(|item| item["task_version"].clone())
        .collect();
    assert_eq!(versions, [3, 2, 1]);
    let mut members: Vec<_> = items[0].as_object().unwrap().keys().collect();
    members.sort();
    assert_eq!(
        members,
        [
            "actor_id",
            "body",
            "created_at",
            "id",
            "read",
            "task_id",
            "task_version",
            "title",
            "type"
        ]
    );
    assert_eq!(items[0]["task_id"], json!(task.id));

    let page = user
        .get("/api/notifications/?limit=2")
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(page["items"], json!(items[..2]));
    let cursor = page["next_cursor"].as_str().unwrap();
    let path = format!("/api/notifications?limit=2&cursor={cursor}");
    let page = user.get(&path).send().await.expect(200).json();
    assert_eq!(page, json!({"items": items[2..], "next_cursor": null}));
}

#[tokio::test]
async fn lists_are_filtered_by_unread_and_type() {
    let (_worker, user, _, items) = scene().await;
    let id = items[1]["id"].as_str().unwrap();
    let path = format!("/api/notifications/{id}");
    user.patch(&path)
        .json(&json!({"read": true}))
        .send()
        .await
        .expect(200);
    assert_eq!(
        list(&user, "?unread=true").await,
        [items[0].clone(), items[2].clone()]
    );
    assert_eq!(list(&user, "?type=task.created").await, [items[2].clone()]);
    assert_eq!(list(&user, "?type=task.deleted").await, Vec::<Value>::new());
    for query in [
        "?type=task",
        "?unread=maybe",
        "?limit=0",
        "?cursor=x",
        "?page=2",
    ] {
        let path = format!("/api/notifications{query}");
        user.get(&path).send().await.expect(422);
    }
}

#[tokio::test]
async fn marking_as_read_is_counted_exactly_and_answers_the_same_again() {
    let (_worker, user, _, items) = scene().await;
    assert_eq!(unread(&user).await, json!(3));
    let path = format!("/api/notifications/{}", items[0]["id"].as_str().unwrap());
    let mut expected = items[0].clone();
    for read in [true, true, false, true] {
        let reply = user
            .patch(&path)
            .json(&json!({"read": read}))
            .send()
            .await
            .expect(200);
        expected["read"] = json!(read);
        assert_eq!(reply.json(), expected);
        let again = user.get(&path).send().await.expect(200);
        assert_eq!(
            (again.json(), again.header("etag")),
            (expected.clone(), reply.header("etag"))
        );
        assert_eq!(unread(&user).await, json!(if read { 2 } else { 3 }));
    }
    for body in [
        json!({}),
        json!({"read": "yes"}),
        json!({"read": true, "title": "x"}),
    ] {
        user.patch(&path).json(&body).send().await.expect(422);
    }
}

#[tokio::test]
async fn all_are_marked_at_once_and_one_is_deleted() {
    let (_worker, user, _, items) = scene().await;
    let path = format!("/api/notifications/{}", items[0]["id"].as_str().unwrap());
    user.delete(&path).send().await.expect(204);
    user.delete(&path).send().await.expect(404);
    user.get(&path).send().await.expect(404);
    assert_eq!(unread(&user).await, json!(2));
    for updated in [2, 0] {
        let reply = user
            .post("/api/notifications/read-all")
            .send()
            .await
            .expect(200);
        assert_eq!(reply.json(), json!({"updated": updated}));
    }
    assert_eq!(unread(&user).await, json!(0));
    user.get("/api/notifications/read-all")
        .send()
        .await
        .expect(405);
}

#[tokio::test]
async fn what_belongs_to_somebody_else_is_not_found() {
    let (worker, _, _, items) = scene().await;
    let (_, stranger) = worker.http.as_somebody();
    let path = format!("/api/notifications/{}", items[0]["id"].as_str().unwrap());
    stranger.get(&path).send().await.expect(404);
    stranger
        .patch(&path)
        .json(&json!({"read": true}))
        .send()
        .await
        .expect(404);
    stranger.delete(&path).send().await.expect(404);
    assert_eq!(list(&stranger, "").await, Vec::<Value>::new());
    assert_eq!(unread(&stranger).await, json!(0));
}

#[tokio::test]
async fn requests_that_did_not_come_through_the_gateway_are_refused() {
    let (worker, _, task, _) = scene().await;
    for path in ["", "/unread-count", "/stream", "/some-id"] {
        let path = format!("/api/notifications{path}");
        let unsigned = worker.http.unsigned();
        unsigned.get(&path).send().await.expect(401);
        let forged = unsigned.get(&path).header("x-user-id", task.owner.as_str());
        forged.send().await.expect(401);
        // Signed, but for nobody.
        worker.http.get(&path).send().await.expect(401);
    }
    worker
        .http
        .unsigned()
        .get("/livez")
        .send()
        .await
        .expect(200);
    let metrics = worker
        .http
        .unsigned()
        .get("/metrics")
        .send()
        .await
        .expect(200)
        .text();
    for metric in ["consumer_lag_seconds", "sse_streams"] {
        assert!(metrics.contains(metric), "{metric} is missing");
    }
}
