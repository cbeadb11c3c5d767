//! Rules of every route: conditional requests, `HEAD`, `OPTIONS`, and methods that are not allowed.

use http::Method;
use serde_json::json;

use crate::support::{Worker, create_titled, path};

#[tokio::test]
async fn a_stale_if_match_changes_nothing_by_whatever_method() {
    let worker = Worker::start().await;
    let ann = worker.as_user("ann");
    let task = path(&create_titled(&ann, "x").await);
    let send = async |method: Method, tag: &str| {
        let request = ann.request(method.clone(), &task).header("if-match", tag);
        let request = match method {
            Method::DELETE => request,
            _ => request.json(&json!({"title": format!("{method} {tag}")})),
        };
        request.send().await
    };
    send(Method::PATCH, "\"1\"").await.expect(200);
    for method in [Method::PUT, Method::PATCH, Method::DELETE] {
        for stale in ["\"1\"", "\"3\"", "W/\"2\"", "2", "\"1\", \"4\""] {
            let refused = send(method.clone(), stale).await.expect(412).json();
            assert_eq!(refused["type"], "/problems/precondition-failed");
        }
    }
    // Refused even though it would change nothing.
    let same = json!({"title": "PATCH \"1\""});
    let same = ann.patch(&task).header("if-match", "\"1\"").json(&same);
    same.send().await.expect(412);
    let now = ann.get(&task).send().await.expect(200);
    assert_eq!(now.header("etag"), Some("\"2\""));
    assert_eq!(now.json()["title"], "PATCH \"1\"");

    for met in ["\"2\"", "\"1\", \"3\"", "*"] {
        send(Method::PUT, met).await.expect(200);
    }
    send(Method::DELETE, "\"5\"").await.expect(204);
    send(Method::DELETE, "\"5\"").await.expect(404);
    worker.stop().await;
}

#[tokio::test]
async fn of_parallel_changes_of_one_version_one_is_made() {
    let worker = Worker::start().await;
    let ann = worker.as_user("ann");
    let task = path(&create_titled(&ann, "x").await);
    let changes = (0..16).map(|n| {
        let (ann, task) = (ann.clone(), task.clone());
        tokio::spawn(async move {
            let title = json!({"title": n.to_string()});
            let change = ann.patch(&task).header("if-match", "\"1\"").json(&title);
            change.send().await.status.as_u16()
        })
    });
    let mut statuses = Vec::new();
    for change in changes.collect::<Vec<_>>() {
        statuses.push(change.await.unwrap());
    }
    statuses.sort_unstable();
    assert_eq!(statuses[0], 200);
    assert_eq!(statuses[1..], [412; 15]);
    worker.stop().await;
}

#[tokio::test]
async fn what_the_client_has_is_not_sent_again() {
    let worker = Worker::start().await;
    let ann = worker.as_user("ann");
    let task = path(&create_titled(&ann, "x").await);
    for method in [Method::GET, Method::HEAD] {
        for (known, status) in [("\"1\"", 304), ("W/\"1\"", 304), ("*", 304), ("\"2\"", 200)] {
            let request = ann.request(method.clone(), &task);
            let reply = request.header("if-none-match", known).send().await;
            let reply = reply.expect(status);
            assert_eq!(reply.header("etag"), Some("\"1\""));
            assert_eq!(
                reply.body.is_empty(),
                status == 304 || method == Method::HEAD
            );
        }
    }
    let title = json!({"title": "y"});
    ann.patch(&task).json(&title).send().await.expect(200);
    let changed = ann.get(&task).header("if-none-match", "\"1\"").send().await;
    assert_eq!(changed.expect(200).json()["title"], "y");
    worker.stop().await;
}

#[tokio::test]
async fn head_is_get_without_its_body() {
    let worker = Worker::start().await;
    let ann = worker.as_user("ann");
    let task = path(&create_titled(&ann, "x").await);
    for path in ["/api/tasks?limit=1", &task, &(task.clone() + "/events")] {
        let get = ann.get(path).send().await.expect(200);
        let head = ann.head(path).send().await.expect(200);
        assert!(head.body.is_empty());
        for name in ["content-type", "content-length", "etag"] {
            assert_eq!(head.header(name), get.header(name), "{name} of {path}");
        }
    }
    ann.head("/api/tasks/none").send().await.expect(404);
    worker.stop().await;
}

#[tokio::test]
async fn every_route_says_what_it_allows_and_refuses_the_rest() {
    let worker = Worker::start().await;
    let ann = worker.as_user("ann");
    let task = path(&create_titled(&ann, "x").await);
    let events = task.clone() + "/events";
    for (path, allowed) in [
        ("/api/tasks", "POST, GET, HEAD, OPTIONS"),
        ("/api/tasks/", "POST, GET, HEAD, OPTIONS"),
        ("/api/tasks/upload", "POST, OPTIONS"),
        (&task, "GET, PUT, PATCH, DELETE, HEAD, OPTIONS"),
        (&events, "GET, HEAD, OPTIONS"),
    ] {
        let options = ann.options(path).send().await.expect(204);
        assert_eq!(options.header("allow"), Some(allowed), "{path}");
        assert!(options.body.is_empty());
        for method in [
            "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW",
        ] {
            if allowed.split(", ").any(|allowed| allowed == method) {
                continue;
            }
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let refused = ann.request(method.clone(), path).send().await.expect(405);
            assert_eq!(refused.header("allow"), Some(allowed), "{method} {path}");
        }
        let unsigned = worker.http.unsigned().options(path).send().await;
        unsigned.expect(401);
    }
    let unknown = ann.options("/api/tasks/a/b").send().await;
    unknown.expect(404);
    worker.stop().await;
}
