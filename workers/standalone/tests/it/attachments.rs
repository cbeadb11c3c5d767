//! Uploads and downloads of task files through the whole platform.

use serde_json::{Value, json};
use testkit::{Client, Reply};

use crate::test_platform::TestPlatform;

const BOUNDARY: &str = "a-boundary";

pub(crate) fn file_part(name: &str, content: &[u8]) -> Vec<u8> {
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: image/png\r\n\r\n"
    );
    [head.as_bytes(), content, b"\r\n"].concat()
}

pub(crate) fn task_part(task: &Value) -> Vec<u8> {
    let part =
        format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"task\"\r\n\r\n{task}\r\n");
    part.into_bytes()
}

/// The end of a form.
pub(crate) fn end() -> Vec<u8> {
    format!("--{BOUNDARY}--\r\n").into_bytes()
}

pub(crate) fn content_type() -> String {
    format!("multipart/form-data; boundary={BOUNDARY}")
}

pub(crate) async fn upload(http: &Client, token: &str, parts: &[Vec<u8>]) -> Reply {
    let request = http.post("/api/tasks/upload").bearer(token);
    let request = request.header("content-type", content_type());
    request.body([parts.concat(), end()].concat()).send().await
}

pub(crate) fn file_path(task: &Value, n: usize) -> String {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let (task_id, id) = (text(&task["id"]), text(&task["attachments"][n]["id"]));
    format!("/api/tasks/{task_id}/attachments/{id}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_uploaded_with_files_that_its_assignee_reads_and_nobody_else() {
    let test = TestPlatform::start().await;
    let (ada, bob, eve) = (test.user().await, test.user().await, test.user().await);
    let [one, two] = [&test.gateways[0], &test.gateways[1]];
    // Larger than the gateway allows for any other request.
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let task = json!({"title": "With files", "assignee_id": bob.id});
    let parts = [task_part(&task), file_part("a.png", &large)];
    let task = upload(one, &ada.token, &parts).await.expect(201).json();
    let path = file_path(&task, 0);

    let read = two.get(&path).bearer(&bob.token).send().await.expect(200);
    assert!(read.body == large);
    let part = two.get(&path).bearer(&bob.token);
    let part = part.header("range", "bytes=2999990-").send().await;
    assert!(part.expect(206).body == large[2_999_990..]);
    two.get(&path).bearer(&eve.token).send().await.expect(404);
    two.get(&path).send().await.expect(401);

    let gone = two.delete(&path).bearer(&bob.token).send().await;
    gone.expect(204);
    one.get(&path).bearer(&ada.token).send().await.expect(404);
    let task = format!("/api/tasks/{}", task["id"].as_str().expect("an id"));
    let task = one.get(&task).bearer(&ada.token).send().await.expect(200);
    assert_eq!(task.json()["attachments"], json!([]));
    test.finish().await;
}
