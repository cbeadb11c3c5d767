//! Files of tasks, as a client sees them.

use std::time::Duration;

use bson::{Document, doc};
use events::bus::Bus;
use serde_json::{Value, json};
use tasks::store::files::CHUNK;
use testkit::{Reply, Signed, eventually, shared_mongodb};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::erasure::deleted;
use crate::support::{Worker, broker, bus, content, pointers};

/// A worker, and direct access to its database.
struct Fixture {
    worker: Worker,
    database: mongodb::Database,
}

impl Fixture {
    async fn start() -> Self {
        let rabbit = broker().await;
        let mongo = shared_mongodb().await;
        let name = mongo.fresh_database();
        let worker = Worker::with(&mongo.url(), &name, &rabbit.url()).await;
        let client = mongodb::Client::with_uri_str(mongo.url()).await.unwrap();
        let database = client.database(&name);
        Self { worker, database }
    }

    /// Waits until exactly this many files are stored, none of them in doubt and no chunk without its file.
    async fn files_are(&self, wanted: usize) {
        let count = |name: &str, filter: Document| {
            let collection = self.database.collection::<Document>(name);
            async move { collection.count_documents(filter).await.unwrap() as usize }
        };
        eventually(Duration::from_secs(30), async || {
            let files = count("attachments.files", doc! {}).await;
            let chunks = count("attachments.chunks", doc! {}).await;
            let first = count("attachments.chunks", doc! {"n": 0}).await;
            let since = doc! {"metadata.in_doubt_since": {"$exists": true}};
            let in_doubt = count("attachments.files", since).await;
            match (files, first, in_doubt) == (wanted, wanted, 0) && (wanted > 0 || chunks == 0) {
                true => Ok(()),
                false => Err(format!(
                    "{files} files, {chunks} chunks, {in_doubt} in doubt"
                )),
            }
        })
        .await;
    }
}

const BOUNDARY: &str = "a-boundary";

fn part(name: &str, file: Option<(&str, &str)>, content: impl AsRef<[u8]>) -> Vec<u8> {
    let mut part = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"");
    if let Some((file, kind)) = file {
        part += &format!("; filename=\"{file}\"\r\nContent-Type: {kind}");
    }
    let mut part = (part + "\r\n\r\n").into_bytes();
    part.extend_from_slice(content.as_ref());
    part.extend_from_slice(b"\r\n");
    part
}

fn task_part() -> Vec<u8> {
    part(
        "task",
        None,
        json!({"title": "With files", "assignee_id": "bob"}).to_string(),
    )
}

fn form(parts: &[Vec<u8>]) -> Vec<u8> {
    [parts.concat(), format!("--{BOUNDARY}--\r\n").into_bytes()].concat()
}

async fn send(user: &Signed, key: Option<&str>, parts: &[Vec<u8>]) -> Reply {
    let request = user.post("/api/tasks/upload").header(
        "content-type",
        format!("multipart/form-data; boundary={BOUNDARY}"),
    );
    let request = match key {
        Some(key) => request.header("idempotency-key", key),
        None => request,
    };
    request.body(form(parts)).send().await
}

fn path(task: &Value, n: usize) -> String {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (task_id, id) = (text(&task["id"]), text(&task["attachments"][n]["id"]));
    format!("/api/tasks/{task_id}/attachments/{id}")
}

#[tokio::test]
async fn a_task_is_uploaded_with_its_files_and_they_are_read_again() {
    let fixture = Fixture::start().await;
    let (ann, bob) = (fixture.worker.as_user("ann"), fixture.worker.as_user("bob"));
    let large = content(2 * CHUNK + 17);
    let parts = [
        part(
            "x",
            Some(("C:\\ü.txt", "Text/Plain; charset=utf-8")),
            "hello",
        ),
        task_part(),
        part("y", Some(("page.html", "text/html")), &large),
        part("z", Some(("nothing", "image/png")), ""),
    ];
    let reply = send(&ann, None, &parts).await.expect(201);
    let task = reply.json();
    let shown = |n: usize, name: &str| task["attachments"][n][name].clone();
    assert_eq!(shown(0, "name"), "ü.txt");
    assert_eq!(shown(0, "content_type"), "text/plain");
    assert_eq!(shown(1, "size"), large.len());
    assert_eq!(shown(2, "size"), 0);
    assert_eq!(
        shown(0, "sha256"),
        "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    );
    let location = reply.header("location").unwrap().to_owned();
    assert_eq!(bob.get(&location).send().await.expect(200).json(), task);

    for (n, wanted) in [b"hello".to_vec(), large.clone(), Vec::new()]
        .iter()
        .enumerate()
    {
        let read = bob.get(&path(&task, n)).send().await.expect(200);
        assert!(read.body == *wanted, "{n}");
        let length = wanted.len().to_string();
        assert_eq!(read.header("content-length"), Some(length.as_str()));
        let head = bob.head(&path(&task, n)).send().await.expect(200);
        assert_eq!(head.header("content-length"), Some(length.as_str()));
        assert_eq!(head.header("etag"), read.header("etag"));
    }
    let page = bob.get(&path(&task, 1)).send().await.expect(200);
    for (name, value) in [
        ("content-type", "application/octet-stream"),
        ("content-disposition", "attachment; filename=\"page.html\""),
        ("x-content-type-options", "nosniff"),
        ("accept-ranges", "bytes"),
    ] {
        assert_eq!(page.header(name), Some(value));
    }

    let missing = [
        (&fixture.worker.as_user("eve"), path(&task, 0)),
        (&ann, path(&task, 0) + "x"),
    ];
    for (user, path) in missing {
        user.get(&path).send().await.expect(404);
        user.delete(&path).send().await.expect(404);
    }
    let chunks = fixture
        .database
        .collection::<Document>("attachments.chunks");
    assert_eq!(chunks.count_documents(doc! {}).await.unwrap(), 4);
    fixture.worker.stop().await;
}

#[tokio::test]
async fn a_part_of_a_file_is_read_by_its_range() {
    let fixture = Fixture::start().await;
    let ann = fixture.worker.as_user("ann");
    let large = content(3 * CHUNK);
    let parts = [task_part(), part("x", Some(("x", "a/b")), &large)];
    let task = send(&ann, None, &parts).await.expect(201).json();
    let path = path(&task, 0);
    let (c, n) = (CHUNK, large.len());
    for (range, bytes) in [
        ("bytes=0-0".to_owned(), 0..1),
        (format!("bytes={}-{}", c - 1, c), c - 1..c + 1),
        (format!("bytes={c}-{}", 2 * c - 1), c..2 * c),
        (format!("bytes={}-", c + 5), c + 5..n),
        (format!("bytes=-{}", c + 5), n - c - 5..n),
    ] {
        let part = ann.get(&path).header("range", &range).send().await;
        let part = part.expect(206);
        assert!(part.body == large[bytes.clone()], "{range}");
        let wanted = format!("bytes {}-{}/{n}", bytes.start, bytes.end - 1);
        assert_eq!(part.header("content-range"), Some(wanted.as_str()));
    }
    let past_the_end = ann.get(&path).header("range", format!("bytes={n}-"));
    let past_the_end = past_the_end.send().await.expect(416);
    assert_eq!(
        past_the_end.header("content-range"),
        Some(format!("bytes */{n}").as_str())
    );

    let etag = format!("\"{}\"", task["attachments"][0]["sha256"].as_str().unwrap());
    let conditional = |name: &'static str, value: String| {
        let request = ann.get(&path).header("range", "bytes=0-9");
        request.header(name, value).send()
    };
    conditional("if-range", etag.clone()).await.expect(206);
    conditional("if-range", "\"other\"".into())
        .await
        .expect(200);
    conditional("if-none-match", "\"other\"".into())
        .await
        .expect(206);
    let known = conditional("if-none-match", etag).await.expect(304);
    assert_eq!((known.header("content-range"), known.body.len()), (None, 0));
    fixture.worker.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_form_is_told_and_nothing_of_it_stays() {
    let fixture = Fixture::start().await;
    let ann = fixture.worker.as_user("ann");
    let file = || part("x", Some(("x.bin", "a/b")), content(CHUNK + 1));
    let unknown = part("titel", None, "x");
    let task = part("task", None, json!({"titel": "x"}).to_string());
    for (parts, pointer) in [
        (vec![file()], "/task"),
        (vec![file(), unknown], "/titel"),
        (vec![file(), task_part(), task_part()], "/task"),
        (vec![file(), task], "/titel"),
    ] {
        let reply = send(&ann, None, &parts).await.expect(422);
        assert!(
            pointers(&reply).iter().any(|found| found == pointer),
            "{reply:?}"
        );
    }
    let mut many = vec![task_part()];
    many.extend((0..21).map(|_| part("x", Some(("x", "a/b")), "1")));
    send(&ann, None, &many).await.expect(413);
    let large = [
        task_part(),
        file(),
        part("x", Some(("y", "a/b")), content(2_000_001)),
    ];
    send(&ann, None, &large).await.expect(413);

    let upload = |content_type: &str, body: Vec<u8>| {
        let request = ann
            .post("/api/tasks/upload")
            .header("content-type", content_type);
        request.body(body).send()
    };
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    upload("multipart/form-data", form(&[task_part()]))
        .await
        .expect(400);
    // Without its end, and empty.
    upload(&kind, [task_part(), file()].concat())
        .await
        .expect(400);
    upload(&kind, Vec::new()).await.expect(400);
    let endless = format!("--{BOUNDARY}\r\nX: {}", "x".repeat(1 << 20));
    upload(&kind, endless.into_bytes()).await.expect(400);

    fixture.files_are(0).await;
    let tasks = ann.get("/api/tasks").send().await.expect(200).json();
    assert_eq!(tasks["items"], json!([]));
    let fits = [
        task_part(),
        part("x", Some(("y", "a/b")), content(2_000_000)),
    ];
    send(&ann, None, &fits).await.expect(201);
    fixture.worker.stop().await;
}

#[tokio::test]
async fn of_an_upload_that_breaks_off_nothing_stays() {
    let fixture = Fixture::start().await;
    let signed = fixture.worker.as_user("ann");
    // A signed head that announces a longer body than the client sends.
    let head = signed.post("/api/tasks/upload").head(&[
        (
            "content-type",
            &format!("multipart/form-data; boundary={BOUNDARY}"),
        ),
        ("content-length", "1000000"),
    ]);
    let mut client = TcpStream::connect(fixture.worker.address).await.unwrap();
    client.write_all(head.as_bytes()).await.unwrap();
    let begun = [
        task_part(),
        part("x", Some(("x", "a/b")), content(2 * CHUNK)),
    ]
    .concat();
    client.write_all(&begun).await.unwrap();
    let chunks = fixture
        .database
        .collection::<Document>("attachments.chunks");
    eventually(Duration::from_secs(30), async || {
        let there = chunks.count_documents(doc! {}).await.unwrap();
        (there > 0).then_some(()).ok_or("nothing was written yet")
    })
    .await;
    drop(client);
    fixture.files_are(0).await;
    fixture.worker.stop().await;
}

#[tokio::test]
async fn an_upload_that_is_sent_again_with_its_key_happens_once() {
    let fixture = Fixture::start().await;
    let ann = fixture.worker.as_user("ann");
    let parts = |content: &str| [task_part(), part("x", Some(("x", "a/b")), content)];
    let first = send(&ann, Some("k"), &parts("one")).await.expect(201);
    let again = send(&ann, Some("k"), &parts("one")).await.expect(201);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.json(), first.json());
    let other = send(&ann, Some("k"), &parts("two")).await.expect(422);
    assert_eq!(other.json()["type"], "/problems/idempotency-mismatch");
    fixture.files_are(1).await;
    ann.get(&path(&first.json(), 0)).send().await.expect(200);
    fixture.worker.stop().await;
}

#[tokio::test]
async fn a_file_goes_alone_or_with_its_task_or_with_its_owner() {
    let fixture = Fixture::start().await;
    let (ann, bob) = (fixture.worker.as_user("ann"), fixture.worker.as_user("bob"));
    let file = |name: &str| part("x", Some((name, "a/b")), name);
    let parts = [task_part(), file("one"), file("two"), file("three")];
    let task = send(&ann, None, &parts).await.expect(201).json();
    fixture.files_are(3).await;

    let stale = bob.delete(&path(&task, 1)).header("if-match", "\"7\"");
    stale.send().await.expect(412);
    let gone = bob.delete(&path(&task, 1)).send().await.expect(204);
    assert_eq!(gone.header("etag"), Some("\"2\""));
    bob.get(&path(&task, 1)).send().await.expect(404);
    bob.delete(&path(&task, 1)).send().await.expect(404);
    fixture.files_are(2).await;
    let task_path = format!("/api/tasks/{}", task["id"].as_str().unwrap());
    let left = ann.get(&task_path).send().await.expect(200).json();
    let names: Vec<_> = left["attachments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| &file["name"])
        .collect();
    assert_eq!(names, ["one", "three"]);
    assert_eq!(
        ann.get(&path(&left, 1)).send().await.expect(200).text(),
        "three"
    );

    ann.delete(&task_path).send().await.expect(204);
    fixture.files_are(0).await;

    send(&ann, None, &parts).await.expect(201);
    fixture.files_are(3).await;
    let bus = bus(&fixture.worker.amqp_url);
    bus.publish(&[deleted("ann")]).await.unwrap();
    fixture.files_are(0).await;
    let events = fixture.worker.events().await;
    let changed: Vec<_> = events
        .iter()
        .map(|event| event.data["changed"].clone())
        .collect();
    assert!(changed.contains(&json!(["attachments"])), "{changed:?}");
}
