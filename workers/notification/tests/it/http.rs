//! The HTTP handlers, called as the gateway calls them.

use serde_json::{Value, json};
use testkit::Signed;

use crate::fixture::{Fixture, Task, Worker};

const READ_ALL: &str = "/api/notifications/read-all";

/// A worker, and a user with three notifications about one task.
async fn scene() -> (Worker, Signed, Task, Vec<Value>) {
    let fixture = Fixture::new().await;
    let task = Task::new();
    let events: Vec<_> = (1..=3).map(|version| task.store_event(version)).collect();
    fixture
        .store()
        .await
        .apply(&events, task.born)
        .await
        .expect("applied");
    let worker = fixture.worker().await;
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
    let mut read = items[1].clone();
    read["read"] = json!(true);
    assert_eq!(list(&user, "?unread=false").await, [read]);
    assert_eq!(list(&user, "?type=task.created").await, [items[2].clone()]);
    assert_eq!(
        list(&user, "?type=task.updated&unread=true").await,
        [items[0].clone()]
    );
    // A cursor of one list fits a list with another filter.
    let reply = user.get("/api/notifications?limit=1").send().await;
    let page = reply.expect(200).json();
    let cursor = page["next_cursor"].as_str().unwrap();
    assert_eq!(
        list(&user, &format!("?unread=true&cursor={cursor}")).await,
        [items[2].clone()]
    );
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
        let reply = user.post(READ_ALL).send().await.expect(200);
        assert_eq!(reply.json(), json!({"updated": updated}));
        assert_eq!(reply.header("idempotent-replayed"), None);
    }
    assert_eq!(unread(&user).await, json!(0));
}

#[tokio::test]
async fn read_all_takes_no_members() {
    let (_worker, user, _, _) = scene().await;
    let send = async |body: &'static str, kind: &str| {
        let request = user.post(READ_ALL).header("content-type", kind).body(body);
        request.header("idempotency-key", "a").send().await
    };
    for (body, kind, status) in [
        (r#"{"x": 1}"#, "application/json", 422),
        ("[]", "application/json", 422),
        ("{", "application/json", 400),
        ("{}", "text/plain", 415),
    ] {
        send(body, kind).await.expect(status);
    }
    user.post("/api/notifications/read-all?type=task.created")
        .send()
        .await
        .expect(422);
    assert_eq!(unread(&user).await, json!(3));
    // No body and an object without members mean the same.
    let reply = send("{}", "application/json").await.expect(200);
    assert_eq!(reply.json(), json!({"updated": 3}));
    let reply = user.post(READ_ALL).header("idempotency-key", "a").send();
    let reply = reply.await.expect(200);
    assert_eq!(reply.header("idempotent-replayed"), Some("true"));
}

#[tokio::test]
async fn a_read_all_that_is_sent_again_with_its_key_is_answered_the_same() {
    let fixture = Fixture::new().await;
    let (task, other) = (Task::new(), Task::new());
    let store = fixture.store().await;
    store
        .apply(
            &[
                task.store_event(1),
                task.store_event(2),
                other.store_event(1),
            ],
            task.born,
        )
        .await
        .unwrap();
    let replicas = [fixture.worker().await, fixture.worker().await];
    let [one, two] = [0, 1].map(|n: usize| replicas[n].http.as_user(task.owner.as_str()));
    let send = async |user: &Signed, key: &str| {
        let request = user.post(READ_ALL).header("idempotency-key", key);
        let reply = request.send().await.expect(200);
        let replayed = reply.header("idempotent-replayed").map(str::to_owned);
        (reply.json(), replayed)
    };
    let (again, marked) = (Some("true".to_owned()), |n| json!({"updated": n}));
    assert_eq!(send(&one, "8e03978e").await, (marked(2), None));
    store
        .apply(&[task.store_event(3)], task.born)
        .await
        .unwrap();
    assert_eq!(send(&two, "8e03978e").await, (marked(2), again.clone()));
    // In quotes it is the same key.
    assert_eq!(send(&two, "\"8e03978e\"").await, (marked(2), again));
    assert_eq!(unread(&one).await, json!(1));
    // Each user has their own keys.
    let somebody = replicas[0].http.as_user(other.owner.as_str());
    assert_eq!(send(&somebody, "8e03978e").await, (marked(1), None));
    assert_eq!(send(&one, "another").await, (marked(1), None));
    for bad in ["", "two words"] {
        let request = one.post(READ_ALL).header("idempotency-key", bad);
        request.send().await.expect(400);
    }
}

#[tokio::test]
async fn what_changed_since_it_was_read_is_not_changed() {
    let (_worker, user, _, items) = scene().await;
    let path = format!("/api/notifications/{}", items[0]["id"].as_str().unwrap());
    let tag = async || {
        let reply = user.get(&path).send().await.expect(200);
        reply.header("etag").expect("a tag").to_owned()
    };
    let mark = async |read: bool, tag: &str| {
        let request = user.patch(&path).header("if-match", tag);
        request.json(&json!({"read": read})).send().await
    };
    let fresh = tag().await;
    mark(true, &fresh).await.expect(200);
    let stale = mark(true, &fresh).await.expect(412);
    assert_eq!(stale.json()["type"], json!("/problems/precondition-failed"));
    let delete = user.delete(&path).header("if-match", &fresh).send();
    delete.await.expect(412);
    assert_eq!(unread(&user).await, json!(2));
    // A weak tag never matches; `*` and one tag of several do.
    let now = tag().await;
    mark(false, &format!("W/{now}")).await.expect(412);
    mark(false, "\"x\"").await.expect(412);
    mark(false, &format!("\"x\", {now}")).await.expect(200);
    mark(true, "*").await.expect(200);
    let delete = user.delete(&path).header("if-match", &tag().await).send();
    delete.await.expect(204);
    mark(true, "*").await.expect(404);
    let delete = user.delete(&path).header("if-match", &fresh).send();
    delete.await.expect(404);
}

#[tokio::test]
async fn what_the_client_has_already_is_not_sent_again() {
    let (_worker, user, _, items) = scene().await;
    let path = format!("/api/notifications/{}", items[0]["id"].as_str().unwrap());
    let reply = user.get(&path).send().await.expect(200);
    let tag = reply.header("etag").expect("a tag").to_owned();
    let get = async |known: &str| {
        let request = user.get(&path).header("if-none-match", known);
        request.send().await
    };
    let same = get(&tag).await.expect(304);
    assert_eq!(
        (same.header("etag"), &same.body[..]),
        (Some(&*tag), &b""[..])
    );
    get("\"x\"").await.expect(200);
    let marking = user.patch(&path).json(&json!({"read": true}));
    let marked = marking.header("if-none-match", &tag).send().await;
    assert_ne!(marked.expect(200).header("etag"), Some(&*tag));
    get(&tag).await.expect(200);
}

#[tokio::test]
async fn every_path_says_which_methods_it_has() {
    let (_worker, user, _, items) = scene().await;
    let one = format!("/api/notifications/{}", items[0]["id"].as_str().unwrap());
    for (path, allowed) in [
        ("/api/notifications", "GET, HEAD, OPTIONS"),
        ("/api/notifications/", "GET, HEAD, OPTIONS"),
        ("/api/notifications/unread-count", "GET, HEAD, OPTIONS"),
        ("/api/notifications/stream", "GET, HEAD, OPTIONS"),
        (&one, "GET, PATCH, DELETE, HEAD, OPTIONS"),
        (READ_ALL, "POST, OPTIONS"),
    ] {
        let options = user.options(path).send().await.expect(204);
        assert_eq!(options.header("allow"), Some(allowed), "{path}");
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "PROPFIND"] {
            if allowed.split(", ").any(|allowed| allowed == method) {
                continue;
            }
            let method = http::Method::from_bytes(method.as_bytes()).unwrap();
            let refused = user.request(method, path).send().await.expect(405);
            assert_eq!(refused.header("allow"), Some(allowed), "{path}");
        }
    }
    for path in [
        "/api/notifications",
        "/api/notifications/unread-count",
        &one,
    ] {
        let (get, head) = (user.get(path).send().await, user.head(path).send().await);
        let headers = |reply: &testkit::Reply| {
            ["content-type", "content-length", "etag"]
                .map(|name| reply.header(name).map(str::to_owned))
        };
        assert_eq!(
            headers(&head.clone().expect(200)),
            headers(&get.expect(200)),
            "{path}"
        );
        assert!(head.body.is_empty());
    }
    user.get("/api/notifications/a/b").send().await.expect(404);
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
        // Signed, but without a user.
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
    let status = worker.http.unsigned().get("/status").send().await;
    let status = status.expect(200).json();
    assert_eq!(status["status"], "ready");
    for metric in ["consumer_lag_seconds", "sse_streams", "dead_letters"] {
        assert!(metrics.contains(metric), "{metric} is missing");
        assert!(status["figures"][metric].is_number(), "{status}");
    }
}
