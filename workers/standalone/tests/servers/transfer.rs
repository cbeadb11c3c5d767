//! The data of the platform in one process moves to MongoDB and is used there.

use std::path::Path;

use runtime::supervise::CancellationToken;
use serde_json::{Value, json};
use standalone::single::{Options, Standalone};
use standalone::transfer::{Totals, export, import};
use tempfile::TempDir;
use testkit::{Client, eventually, free_port};

use crate::attachments::{file_part, file_path, task_part, upload};
use crate::dependencies::Dependencies;
use crate::test_platform::{GATEWAY_CONFIG, SOON, TestPlatform};

const PASSWORD: &str = "a river runs through it";

async fn post(http: &Client, path: &str, token: &str, body: Value, status: u16) -> Value {
    let request = http.post(path).bearer(token).json(&body);
    request.send().await.expect(status).json()
}

async fn get(http: &Client, path: &str, token: &str) -> Value {
    http.get(path).bearer(token).send().await.expect(200).json()
}

async fn log_in(http: &Client, email: &str) -> String {
    let body = json!({"email": email, "password": PASSWORD});
    let pair = http.post("/api/users/login").json(&body).send().await;
    let pair = pair.expect(200).json();
    pair["access_token"].as_str().expect("a token").to_owned()
}

/// The content of a file with several chunks.
fn large() -> Vec<u8> {
    (0..600_000_u32).map(|n| (n % 251) as u8).collect()
}

/// Everything that a user can read, except what another login changes.
async fn seen(http: &Client, token: &str, task: &str) -> Vec<Value> {
    let mut seen = Vec::new();
    for path in [
        "/api/users/me",
        "/api/tasks",
        &format!("/api/tasks/{task}/events"),
        "/api/notifications",
        "/api/notifications/unread-count",
    ] {
        seen.push(get(http, path, token).await);
    }
    seen
}

/// Fills a folder with two users and their tasks. Returns what the first user sees, and a task.
async fn gather(folder: &Path) -> (Vec<Value>, String) {
    let address = || ([127, 0, 0, 1], free_port()).into();
    let options = Options {
        listen: address(),
        admin: address(),
        data: folder.to_owned(),
        rate: "1000/s".to_owned(),
        burst: "1000".to_owned(),
        config: None,
        log: "warn".to_owned(),
        access_log_sample: "0.0".to_owned(),
        run_file: None,
    };
    let http = Client::new(format!("http://{}", options.listen));
    let standalone = Standalone::start(options).await.expect("it gets ready");
    let stop = CancellationToken::new();
    let serving = tokio::spawn(standalone.serve(stop.clone()));

    for name in ["ada", "bob", "eve"] {
        let account =
            json!({"email": format!("{name}@example.com"), "password": PASSWORD, "name": name});
        let request = http.post("/api/users/register").json(&account);
        request.send().await.expect(201);
    }
    let (ada, bob) = (
        log_in(&http, "ada@example.com").await,
        log_in(&http, "bob@example.com").await,
    );
    let bob_id = get(&http, "/api/users/me", &bob).await["id"].clone();
    let shared = json!({"title": "Shared", "assignee_id": bob_id, "tags": ["a"]});
    let task = post(&http, "/api/tasks", &ada, shared, 201).await;
    let id = task["id"].as_str().expect("an id").to_owned();
    for status in ["in_progress", "done"] {
        let request = http.patch(&format!("/api/tasks/{id}")).bearer(&bob);
        request
            .json(&json!({"status": status}))
            .send()
            .await
            .expect(200);
    }
    let alone = [
        task_part(&json!({"title": "Alone"})),
        file_part("large", &large()),
        file_part("empty", &[]),
    ];
    upload(&http, &ada, &alone).await.expect(201);
    let eve = log_in(&http, "eve@example.com").await;
    let gone = http.delete("/api/users/me").bearer(&eve);
    gone.json(&json!({"password": PASSWORD}))
        .send()
        .await
        .expect(204);
    eventually(SOON, async || {
        let unread = get(&http, "/api/notifications/unread-count", &ada).await;
        (unread == json!({"count": 3}))
            .then_some(())
            .ok_or(unread.to_string())
    })
    .await;
    let first = get(&http, "/api/notifications", &ada).await;
    let first = first["items"][0]["id"].as_str().expect("an id").to_owned();
    let read = http
        .patch(&format!("/api/notifications/{first}"))
        .bearer(&ada);
    read.json(&json!({"read": true})).send().await.expect(200);

    let seen = seen(&http, &ada, &id).await;
    stop.cancel();
    serving.await.expect("no panic").expect("it ends in order");
    (seen, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn users_tasks_and_notifications_move_to_mongodb_as_they_are() {
    let folder = TempDir::new().expect("a folder");
    let (before, task) = gather(folder.path()).await;
    let mut lines = Vec::new();
    let exported = export(folder.path(), &mut lines)
        .await
        .expect("it comes to rest");
    assert_eq!(
        (exported.users, exported.tasks, exported.notifications),
        (2, 2, 4)
    );
    assert_eq!(exported.files, 2);

    let dependencies = Dependencies::fresh().await;
    let read =
        async |lines: &[u8], resume| import(dependencies.mongo(), &mut &*lines, resume).await;
    // The import is interrupted within a file, and then right before the end.
    let text = String::from_utf8(lines.clone()).expect("a text");
    let (second, _) = text.match_indices("\"line\":\"file\"").nth(1).expect("it");
    for cut in [second, lines.len() - 10] {
        let cut = read(&lines[..cut], cut != second)
            .await
            .expect_err("it has no end");
        assert!(format!("{cut:#}").contains("line"), "{cut:#}");
    }
    let again = read(&lines, false).await.expect_err("it holds tasks");
    assert!(again.to_string().contains("--resume"), "{again}");
    for _ in 0..2 {
        let imported: Totals = read(&lines, true).await.expect("the same");
        assert_eq!(imported, exported);
    }

    let test = TestPlatform::with(dependencies, GATEWAY_CONFIG).await;
    let ada = log_in(test.http(), "ada@example.com").await;
    assert_eq!(seen(test.http(), &ada, &task).await, before);
    let tasks = get(test.http(), "/api/tasks", &ada).await;
    let alone = tasks["items"].as_array().expect("a list");
    let alone = alone
        .iter()
        .find(|task| task["title"] == "Alone")
        .expect("it");
    for (n, content) in [large(), Vec::new()].iter().enumerate() {
        let read = test.http().get(&file_path(alone, n)).bearer(&ada);
        assert!(read.send().await.expect(200).body == *content, "{n}");
    }
    // A new notification is numbered and counted after the imported ones.
    post(
        test.http(),
        "/api/tasks",
        &ada,
        json!({"title": "New"}),
        201,
    )
    .await;
    test.dependencies.drained().await;
    let unread = get(test.http(), "/api/notifications/unread-count", &ada).await;
    assert_eq!(unread, json!({"count": 3}));
    test.finish().await;
}

#[tokio::test]
async fn a_folder_without_data_is_named() {
    let folder = TempDir::new().expect("a folder");
    let refused = export(folder.path(), &mut Vec::new())
        .await
        .expect_err("it is empty");
    assert!(refused.to_string().contains("--data"), "{refused}");
}
