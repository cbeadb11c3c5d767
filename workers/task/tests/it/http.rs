//! The API of tasks, called as the gateway calls it: with signed requests.

use serde_json::{Value, json};
use testkit::Signed;

use crate::support::{Worker, create, create_titled, path, pointers};

#[tokio::test]
async fn a_created_task_is_answered_whole_and_read_again() {
    let worker = Worker::start().await;
    let ann = worker.as_user("ann");
    for collection in ["/api/tasks", "/api/tasks/", "/api/tasks/upload"] {
        let body = json!({
            "title": "Water the plants", "description": "all of them", "priority": "high",
            "due_at": "2026-11-23T10:15:00.5+02:00", "tags": ["home"], "assignee_id": "bob",
        });
        let reply = ann.post(collection).json(&body).send().await.expect(201);
        let task = reply.json();
        assert_eq!(reply.header("location"), Some(path(&task).as_str()));
        assert_eq!(reply.header("etag"), Some("\"1\""));
        let wanted = json!({
            "id": task["id"], "title": "Water the plants", "description": "all of them",
            "status": "todo", "priority": "high", "due_at": "2026-11-23T08:15:00.500Z",
            "tags": ["home"], "owner_id": "ann", "assignee_id": "bob", "attachments": [],
            "version": 1, "created_at": task["created_at"], "updated_at": task["created_at"],
        });
        assert_eq!(task, wanted);
        let read = ann.get(&path(&task)).send().await.expect(200);
        assert_eq!((read.json(), read.header("etag")), (wanted, Some("\"1\"")));
        let known = ann
            .get(&path(&task))
            .header("if-none-match", "\"1\"")
            .send()
            .await;
        known.expect(304);
    }
    worker.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_body_is_told() {
    let worker = Worker::start().await;
    let ann = worker.as_user("ann");
    let reply = ann
        .post("/api/tasks")
        .json(&json!({"titel": "x", "tags": [1]}))
        .send()
        .await;
    let mut wrong = pointers(&reply.expect(422));
    wrong.sort();
    assert_eq!(wrong, ["/tags", "/titel", "/title"]);
    for content_type in ["application/x-ndjson", "text/plain"] {
        let upload = ann
            .post("/api/tasks/upload")
            .header("content-type", content_type);
        upload.body("{}").send().await.expect(415);
    }
    let malformed = ann
        .post("/api/tasks")
        .header("content-type", "application/json");
    malformed
        .body("{\"title\": \"a\", \"title\": \"b\"}")
        .send()
        .await
        .expect(400);
    let too_large = json!({"title": "x", "description": "x".repeat(1 << 20)});
    ann.post("/api/tasks")
        .json(&too_large)
        .send()
        .await
        .expect(413);
    assert!(items(&ann, "/api/tasks").await.is_empty());
    worker.stop().await;
}

#[tokio::test]
async fn unsigned_and_anonymous_requests_are_refused() {
    let worker = Worker::start().await;
    worker
        .http
        .unsigned()
        .get("/api/tasks")
        .send()
        .await
        .expect(401);
    worker
        .http
        .unsigned()
        .get("/api/tasks")
        .header("x-user-id", "ann")
        .send()
        .await
        .expect(401);
    worker.http.get("/api/tasks").send().await.expect(401);
    worker.stop().await;
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_a_put_everything() {
    let worker = Worker::start().await;
    let ann = worker.as_user("ann");
    let task = create(
        &ann,
        json!({"title": "x", "tags": ["a"], "due_at": "2026-01-01T00:00:00Z"}),
    )
    .await;

    let merge = json!({"status": "done", "due_at": null});
    let patch = ann
        .patch(&path(&task))
        .header("content-type", "application/merge-patch+json");
    let reply = patch.body(merge.to_string()).send().await.expect(200);
    let patched = reply.json();
    assert_eq!(reply.header("etag"), Some("\"2\""));
    assert_eq!(patched["tags"], json!(["a"]));
    assert_eq!(
        (&patched["status"], &patched["due_at"]),
        (&json!("done"), &Value::Null)
    );
    assert!(patched["updated_at"].as_str() > task["updated_at"].as_str());
    assert_eq!(patched["created_at"], task["created_at"]);

    let same = ann
        .patch(&path(&task))
        .json(&merge)
        .send()
        .await
        .expect(200);
    assert_eq!(same.json(), patched);

    let put = ann
        .put(&path(&task))
        .json(&json!({"title": "y"}))
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&put["status"], &put["tags"], &put["version"]),
        (&json!("todo"), &json!([]), &json!(3))
    );
    ann.put(&path(&task))
        .json(&json!({}))
        .send()
        .await
        .expect(422);
    ann.patch(&path(&task))
        .json(&json!({"title": null, "version": 9}))
        .send()
        .await
        .expect(422);
    worker.stop().await;
}

#[tokio::test]
async fn a_stale_if_match_changes_nothing() {
    let worker = Worker::start().await;
    let ann = worker.as_user("ann");
    let task = create_titled(&ann, "x").await;
    let patch = |tag: &'static str, title: &'static str| {
        ann.patch(&path(&task))
            .json(&json!({"title": title}))
            .header("if-match", tag)
    };
    patch("\"1\"", "y").send().await.expect(200);
    patch("\"1\"", "z").send().await.expect(412);
    ann.delete(&path(&task))
        .header("if-match", "\"1\"")
        .send()
        .await
        .expect(412);
    let now = ann.get(&path(&task)).send().await.expect(200).json();
    assert_eq!((&now["title"], &now["version"]), (&json!("y"), &json!(2)));
    ann.delete(&path(&task))
        .header("if-match", "\"2\"")
        .send()
        .await
        .expect(204);
    worker.stop().await;
}

#[tokio::test]
async fn an_assignee_reads_and_updates_but_neither_deletes_nor_reassigns() {
    let worker = Worker::start().await;
    let (ann, bob) = (worker.as_user("ann"), worker.as_user("bob"));
    let task = create(&ann, json!({"title": "x", "assignee_id": "bob"})).await;
    bob.get(&path(&task)).send().await.expect(200);
    bob.patch(&path(&task))
        .json(&json!({"status": "done"}))
        .send()
        .await
        .expect(200);
    bob.put(&path(&task))
        .json(&json!({"title": "y", "assignee_id": "bob"}))
        .send()
        .await
        .expect(200);
    bob.patch(&path(&task))
        .json(&json!({"assignee_id": null}))
        .send()
        .await
        .expect(403);
    bob.patch(&path(&task))
        .json(&json!({"assignee_id": "eve"}))
        .send()
        .await
        .expect(403);
    bob.delete(&path(&task)).send().await.expect(403);

    ann.patch(&path(&task))
        .json(&json!({"assignee_id": "eve"}))
        .send()
        .await
        .expect(200);
    bob.get(&path(&task)).send().await.expect(404);
    assert!(items(&bob, "/api/tasks").await.is_empty());
    worker
        .as_user("eve")
        .get(&path(&task))
        .send()
        .await
        .expect(200);
    worker.stop().await;
}

#[tokio::test]
async fn what_belongs_to_somebody_else_does_not_exist() {
    let worker = Worker::start().await;
    let (ann, eve) = (worker.as_user("ann"), worker.as_user("eve"));
    let task = create_titled(&ann, "x").await;
    let events = path(&task) + "/events";
    for path in [
        path(&task).as_str(),
        &events,
        "/api/tasks/no-such-task",
        "/api/tasks/%20",
    ] {
        eve.get(path).send().await.expect(404);
    }
    eve.patch(&path(&task))
        .json(&json!({"title": "mine"}))
        .send()
        .await
        .expect(404);
    eve.put(&path(&task))
        .json(&json!({"title": "mine"}))
        .send()
        .await
        .expect(404);
    eve.delete(&path(&task)).send().await.expect(404);
    ann.delete(&path(&task)).send().await.expect(204);
    ann.delete(&path(&task)).send().await.expect(404);
    ann.get(&path(&task)).send().await.expect(404);
    worker.stop().await;
}

#[tokio::test]
async fn a_list_is_read_page_by_page_and_filtered() {
    let worker = Worker::start().await;
    let ann = worker.as_user("ann");
    for n in 0..5 {
        let status = if n % 2 == 0 { "todo" } else { "done" };
        create(&ann, json!({"title": n.to_string(), "status": status})).await;
    }
    let mut titles = Vec::new();
    let mut next = "/api/tasks?limit=2".to_owned();
    loop {
        let page = ann.get(&next).send().await.expect(200).json();
        titles.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|task| task["title"].clone()),
        );
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        next = format!("/api/tasks?limit=2&cursor={cursor}");
    }
    assert_eq!(titles, ["4", "3", "2", "1", "0"]);
    assert_eq!(items(&ann, "/api/tasks?status=done").await.len(), 2);
    assert_eq!(items(&ann, "/api/tasks?role=assignee").await.len(), 0);
    let wrong = ann
        .get("/api/tasks?status=x&role=y&cursor=z&limit=0&sort=?&q=%20&due_after=now&page=2")
        .send()
        .await;
    assert_eq!(pointers(&wrong.expect(422)).len(), 8);
    worker.stop().await;
}

#[tokio::test]
async fn a_list_is_sorted_and_searched() {
    let worker = Worker::start().await;
    let ann = worker.as_user("ann");
    for (title, due_at, priority) in [
        ("Äpfel", Some("2026-01-02T00:00:00Z"), "low"),
        ("Birnen", None, "urgent"),
        ("Kirschen", Some("2026-01-01T01:00:00+01:00"), "normal"),
    ] {
        let body = json!({"title": title, "due_at": due_at, "priority": priority});
        create(&ann, body).await;
    }
    let titles = async |query: &str| {
        let found = items(&ann, &format!("/api/tasks?{query}")).await;
        let titles = found
            .iter()
            .map(|task| task["title"].as_str().unwrap().to_owned());
        titles.collect::<Vec<_>>().join(" ")
    };
    for (query, wanted) in [
        ("", "Kirschen Birnen Äpfel"),
        ("sort=-created_at", "Kirschen Birnen Äpfel"),
        ("sort=created_at", "Äpfel Birnen Kirschen"),
        ("sort=due_at", "Kirschen Äpfel Birnen"),
        ("sort=-due_at", "Äpfel Kirschen Birnen"),
        ("sort=priority", "Äpfel Kirschen Birnen"),
        ("sort=-priority", "Birnen Kirschen Äpfel"),
        ("q=%C3%A4PF", "Äpfel"),
        ("q=en&sort=created_at", "Birnen Kirschen"),
        ("q=en+sch", "Kirschen"),
        (
            "due_after=2026-01-01T00:00:00Z&sort=due_at",
            "Kirschen Äpfel",
        ),
        ("due_before=2026-01-02T00:00:00Z", "Kirschen"),
    ] {
        assert_eq!(titles(query).await, wanted, "{query}");
    }
    let page = ann.get("/api/tasks?sort=priority&limit=1").send().await;
    let cursor = page.expect(200).json()["next_cursor"]
        .as_str()
        .unwrap()
        .to_owned();
    let next = format!("limit=1&sort=priority&cursor={cursor}");
    assert_eq!(titles(&next).await, "Kirschen");
    let other = ann.get(&format!("/api/tasks?sort=due_at&cursor={cursor}"));
    assert_eq!(pointers(&other.send().await.expect(422)), ["?cursor"]);
    worker.stop().await;
}

#[tokio::test]
async fn the_history_tells_what_happened_in_order() {
    let worker = Worker::start().await;
    let ann = worker.as_user("ann");
    let task = create_titled(&ann, "x").await;
    ann.patch(&path(&task))
        .json(&json!({"title": "y"}))
        .send()
        .await
        .expect(200);
    let history = items(&ann, &(path(&task) + "/events")).await;
    let types: Vec<_> = history.iter().map(|event| event["type"].clone()).collect();
    assert_eq!(types, ["task.created.v1", "task.updated.v1"]);
    assert_eq!(history[1]["data"]["changed"], json!(["title"]));
    worker.stop().await;
}

#[tokio::test]
async fn without_mongodb_the_worker_lives_and_answers_503() {
    let url = format!(
        "mongodb://127.0.0.1:{}/?replicaSet=rs0",
        testkit::free_port()
    );
    let amqp = format!("amqp://127.0.0.1:{}/%2f", testkit::free_port());
    let worker = Worker::launch(&url, "sluice", &amqp).await;
    let open = worker.http.unsigned();
    open.get("/livez").send().await.expect(200);
    let ready = open.get("/readyz").send().await.expect(503).json();
    assert_eq!(ready["dependencies"][0]["name"], "mongodb");
    assert_eq!(ready["dependencies"][1]["required"], false);
    let refused = worker
        .as_user("ann")
        .post("/api/tasks")
        .json(&json!({"title": "x"}))
        .send()
        .await;
    assert!(refused.expect(503).header("retry-after").is_some());
    worker.stop().await;
}

async fn items(user: &Signed, path: &str) -> Vec<Value> {
    let page = user.get(path).send().await.expect(200).json();
    page["items"].as_array().unwrap().clone()
}
