//! Files of tasks: what each store of them must do, and what a client sees of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bson::{Document, doc};
use bytes::Bytes;
use contract::id::{AttachmentId, TaskId};
use serde_json::{Value, json};
use stores::StoreError;
use tasks::attachments::Attachments;
use tasks::domain::{Attachment, Task};
use tasks::store::TaskStore;
use tasks::store::files::{CHUNK, FileRef, FileStore};
use tasks_mongo::files::GridFsFiles;
use tasks_sqlite::SqliteTaskStore;
use tasks_sqlite::disk::DiskFiles;
use tempfile::TempDir;
use testkit::{Reply, Signed, eventually, shared_mongodb};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::conformance::{at, new, user};
use crate::support::{ByHand, Worker, pointers};

/// Files and the tasks that list them, on one kind of ground.
struct Stores<F> {
    files: F,
    tasks: Arc<dyn TaskStore>,
    _folder: Option<TempDir>,
}

async fn on_disk() -> Stores<DiskFiles> {
    let folder = TempDir::new().unwrap();
    Stores {
        files: DiskFiles::open(&folder.path().join("attachments")).unwrap(),
        tasks: Arc::new(SqliteTaskStore::open(&folder.path().join("tasks.db")).unwrap()),
        _folder: Some(folder),
    }
}

async fn in_mongodb() -> Stores<GridFsFiles> {
    let mongo = shared_mongodb().await;
    let name = mongo.fresh_database();
    let tasks = crate::support::store(&mongo.url(), &name).await;
    tasks.prepare().await.unwrap();
    let client = mongodb::Client::with_uri_str(mongo.url()).await.unwrap();
    let files = GridFsFiles::new(&client.database(&name));
    files.prepare().await.unwrap();
    Stores {
        files,
        tasks: Arc::new(tasks),
        _folder: None,
    }
}

/// One test per fact and store.
macro_rules! facts {
    ($($fact:ident)*) => {
        mod disk { $(
            #[tokio::test]
            async fn $fact() {
                super::$fact(super::on_disk().await).await;
            }
        )* }
        mod gridfs { $(
            #[tokio::test]
            async fn $fact() {
                super::$fact(super::in_mongodb().await).await;
            }
        )* }
    };
}

facts! {
    a_file_is_read_as_it_was_written_chunk_by_chunk
    a_file_that_is_not_all_there_is_never_finished
    a_file_is_in_doubt_until_it_is_settled_and_again_when_it_is_doubted
    a_doubt_that_was_renewed_is_not_settled_by_who_saw_the_old_one
    a_removed_file_is_gone_and_may_be_removed_again
    a_sweep_keeps_what_a_task_lists_and_removes_the_rest_when_it_is_old
}

fn file() -> FileRef {
    FileRef {
        task: TaskId::new(),
        id: AttachmentId::new(),
    }
}

fn chunks(size: usize) -> Vec<Bytes> {
    let bytes: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
    bytes.chunks(CHUNK).map(Bytes::copy_from_slice).collect()
}

async fn write(files: &impl FileStore, file: &FileRef, size: usize, ms: i64) {
    files.begin(file, at(ms)).await.unwrap();
    for (index, chunk) in (0..).zip(chunks(size)) {
        files.append(file, index, chunk).await.unwrap();
    }
    files.finish(file, size as u64).await.unwrap();
}

async fn in_doubt(files: &impl FileStore, before: i64) -> BTreeSet<FileRef> {
    let found = files.in_doubt(at(before), 100).await.unwrap();
    found.into_iter().collect()
}

async fn is_there(files: &impl FileStore, file: &FileRef) -> bool {
    files.read(file, 0).await.unwrap().is_some()
}

async fn a_file_is_read_as_it_was_written_chunk_by_chunk(stores: Stores<impl FileStore>) {
    let files = &stores.files;
    for size in [1, CHUNK, 2 * CHUNK + 5] {
        let file = file();
        write(files, &file, size, 0).await;
        for _ in 0..2 {
            for (index, chunk) in (0..).zip(chunks(size)) {
                assert_eq!(files.read(&file, index).await.unwrap(), Some(chunk));
            }
            let behind = size.div_ceil(CHUNK) as u64;
            assert_eq!(files.read(&file, behind).await.unwrap(), None);
            files
                .settle(std::slice::from_ref(&file), at(9))
                .await
                .unwrap();
        }
    }
    assert!(!is_there(files, &file()).await);
}

async fn a_file_that_is_not_all_there_is_never_finished(stores: Stores<impl FileStore>) {
    let (files, file) = (&stores.files, file());
    files.begin(&file, at(0)).await.unwrap();
    files.finish(&file, 0).await.unwrap();
    files
        .append(&file, 0, chunks(CHUNK).remove(0))
        .await
        .unwrap();
    let refused = files.finish(&file, CHUNK as u64 + 1).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })));
    files.finish(&file, CHUNK as u64).await.unwrap();
    files.remove(std::slice::from_ref(&file)).await.unwrap();
    let refused = files.finish(&file, CHUNK as u64).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })));
}

async fn a_file_is_in_doubt_until_it_is_settled_and_again_when_it_is_doubted(
    stores: Stores<impl FileStore>,
) {
    let (files, one, two) = (&stores.files, file(), file());
    write(files, &one, 1, 10).await;
    write(files, &two, 1, 20).await;
    assert_eq!(in_doubt(files, 10).await, BTreeSet::new());
    assert_eq!(in_doubt(files, 11).await, BTreeSet::from([one.clone()]));
    let both = [one.clone(), two.clone()];
    assert_eq!(in_doubt(files, 21).await, BTreeSet::from(both.clone()));
    assert_eq!(files.in_doubt(at(21), 1).await.unwrap().len(), 1);

    files.settle(&both, at(100)).await.unwrap();
    files.settle(&both, at(100)).await.unwrap();
    assert_eq!(in_doubt(files, 100).await, BTreeSet::new());
    let with_a_stranger = [one.clone(), file()];
    assert_eq!(files.doubt(&with_a_stranger, at(30)).await.unwrap(), 1);
    assert_eq!(in_doubt(files, 31).await, BTreeSet::from([one.clone()]));
    assert!(is_there(files, &one).await && is_there(files, &two).await);
}

async fn a_doubt_that_was_renewed_is_not_settled_by_who_saw_the_old_one(
    stores: Stores<impl FileStore>,
) {
    let (files, one) = (&stores.files, [file()]);
    write(files, &one[0], 1, 10).await;
    assert_eq!(files.doubt(&one, at(50)).await.unwrap(), 1);
    files.settle(&one, at(50)).await.unwrap();
    assert_eq!(in_doubt(files, 51).await.len(), 1);
    files.settle(&one, at(51)).await.unwrap();
    assert_eq!(in_doubt(files, 100).await.len(), 0);
}

async fn a_removed_file_is_gone_and_may_be_removed_again(stores: Stores<impl FileStore>) {
    let (files, kept, doubted, other) = (&stores.files, file(), file(), file());
    for file in [&kept, &doubted, &other] {
        write(files, file, CHUNK + 1, 0).await;
    }
    files
        .settle(std::slice::from_ref(&kept), at(9))
        .await
        .unwrap();
    let gone = [kept, doubted];
    for _ in 0..2 {
        files.remove(&gone).await.unwrap();
        assert!(!is_there(files, &gone[0]).await && !is_there(files, &gone[1]).await);
    }
    assert!(is_there(files, &other).await);
    assert_eq!(in_doubt(files, 9).await, BTreeSet::from([other]));
}

async fn a_sweep_keeps_what_a_task_lists_and_removes_the_rest_when_it_is_old(
    stores: Stores<impl FileStore + Clone>,
) {
    const MINUTE: i64 = 60_000;
    let files = &stores.files;
    let listed = file();
    let unlisted = FileRef {
        task: listed.task.clone(),
        id: AttachmentId::new(),
    };
    let (left_behind, young) = (file(), file());
    for file in [&listed, &unlisted, &left_behind] {
        write(files, file, 1, 0).await;
    }
    write(files, &young, 1, 3 * MINUTE).await;
    let attachment = Attachment {
        id: listed.id.clone(),
        name: "a".into(),
        content_type: "text/plain".into(),
        size: 1,
        sha256: String::new(),
    };
    let id = listed.task.clone();
    let (task, event) = Task::create_with(id, vec![attachment], user("ann"), new("x"), at(0));
    stores.tasks.insert(&task, &event, None).await.unwrap();
    assert_eq!(stores.tasks.get(&task.id).await.unwrap(), Some(task));

    let clock = Arc::new(ByHand::at(at(5 * MINUTE)));
    let attachments = Attachments::new(Arc::new(files.clone()), clock.clone(), 1);
    attachments.sweep(&*stores.tasks).await.unwrap();
    assert_eq!(in_doubt(files, 6 * MINUTE).await.len(), 4);
    clock.set(at(5 * MINUTE + 1));
    attachments.sweep(&*stores.tasks).await.unwrap();
    assert_eq!(
        in_doubt(files, 6 * MINUTE).await,
        BTreeSet::from([young.clone()])
    );
    for (file, stays) in [
        (&listed, true),
        (&unlisted, false),
        (&left_behind, false),
        (&young, true),
    ] {
        assert_eq!(is_there(files, file).await, stays, "{file:?}");
    }
}

/// A worker, and what is in its database besides tasks.
struct Stage {
    worker: Worker,
    database: mongodb::Database,
}

impl Stage {
    async fn start() -> Self {
        let rabbit = crate::support::broker().await;
        let mongo = shared_mongodb().await;
        let name = mongo.fresh_database();
        let worker = Worker::with(&mongo.url(), &name, &rabbit.url()).await;
        let client = mongodb::Client::with_uri_str(mongo.url()).await.unwrap();
        let database = client.database(&name);
        Self { worker, database }
    }

    /// Waits until so many files are there, with all their chunks and nobody else's.
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

fn content(size: usize) -> Vec<u8> {
    chunks(size).concat()
}

#[tokio::test]
async fn a_task_is_uploaded_with_its_files_and_they_are_read_again() {
    let stage = Stage::start().await;
    let (ann, bob) = (stage.worker.as_user("ann"), stage.worker.as_user("bob"));
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
        (&stage.worker.as_user("eve"), path(&task, 0)),
        (&ann, path(&task, 0) + "x"),
    ];
    for (user, path) in missing {
        user.get(&path).send().await.expect(404);
        user.delete(&path).send().await.expect(404);
    }
    let chunks = stage.database.collection::<Document>("attachments.chunks");
    assert_eq!(chunks.count_documents(doc! {}).await.unwrap(), 4);
    stage.worker.stop().await;
}

#[tokio::test]
async fn a_part_of_a_file_is_read_by_its_range() {
    let stage = Stage::start().await;
    let ann = stage.worker.as_user("ann");
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
        let told = format!("bytes {}-{}/{n}", bytes.start, bytes.end - 1);
        assert_eq!(part.header("content-range"), Some(told.as_str()));
    }
    let behind = ann.get(&path).header("range", format!("bytes={n}-"));
    let behind = behind.send().await.expect(416);
    assert_eq!(
        behind.header("content-range"),
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
    stage.worker.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_form_is_told_and_nothing_of_it_stays() {
    let stage = Stage::start().await;
    let ann = stage.worker.as_user("ann");
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
            pointers(&reply).iter().any(|told| told == pointer),
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
    // Its end is missing, or all of it.
    upload(&kind, [task_part(), file()].concat())
        .await
        .expect(400);
    upload(&kind, Vec::new()).await.expect(400);
    let endless = format!("--{BOUNDARY}\r\nX: {}", "x".repeat(1 << 20));
    upload(&kind, endless.into_bytes()).await.expect(400);

    stage.files_are(0).await;
    let tasks = ann.get("/api/tasks").send().await.expect(200).json();
    assert_eq!(tasks["items"], json!([]));
    let fits = [
        task_part(),
        part("x", Some(("y", "a/b")), content(2_000_000)),
    ];
    send(&ann, None, &fits).await.expect(201);
    stage.worker.stop().await;
}

#[tokio::test]
async fn of_an_upload_that_breaks_off_nothing_stays() {
    let stage = Stage::start().await;
    let signed = stage.worker.as_user("ann");
    // The head that the client signs, with a body that announces more than it brings.
    let head = signed.post("/api/tasks/upload").head(&[
        (
            "content-type",
            &format!("multipart/form-data; boundary={BOUNDARY}"),
        ),
        ("content-length", "1000000"),
    ]);
    let mut client = TcpStream::connect(stage.worker.address).await.unwrap();
    client.write_all(head.as_bytes()).await.unwrap();
    let begun = [
        task_part(),
        part("x", Some(("x", "a/b")), content(2 * CHUNK)),
    ]
    .concat();
    client.write_all(&begun).await.unwrap();
    let chunks = stage.database.collection::<Document>("attachments.chunks");
    eventually(Duration::from_secs(30), async || {
        let there = chunks.count_documents(doc! {}).await.unwrap();
        (there > 0).then_some(()).ok_or("nothing was written yet")
    })
    .await;
    drop(client);
    stage.files_are(0).await;
    stage.worker.stop().await;
}

#[tokio::test]
async fn an_upload_that_is_sent_again_with_its_key_happens_once() {
    let stage = Stage::start().await;
    let ann = stage.worker.as_user("ann");
    let parts = |content: &str| [task_part(), part("x", Some(("x", "a/b")), content)];
    let first = send(&ann, Some("k"), &parts("one")).await.expect(201);
    let again = send(&ann, Some("k"), &parts("one")).await.expect(201);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.json(), first.json());
    let other = send(&ann, Some("k"), &parts("two")).await.expect(422);
    assert_eq!(other.json()["type"], "/problems/idempotency-mismatch");
    stage.files_are(1).await;
    ann.get(&path(&first.json(), 0)).send().await.expect(200);
    stage.worker.stop().await;
}

#[tokio::test]
async fn a_file_goes_alone_or_with_its_task_or_with_its_owner() {
    let stage = Stage::start().await;
    let (ann, bob) = (stage.worker.as_user("ann"), stage.worker.as_user("bob"));
    let file = |name: &str| part("x", Some((name, "a/b")), name);
    let parts = [task_part(), file("one"), file("two"), file("three")];
    let task = send(&ann, None, &parts).await.expect(201).json();
    stage.files_are(3).await;

    let stale = bob.delete(&path(&task, 1)).header("if-match", "\"7\"");
    stale.send().await.expect(412);
    let gone = bob.delete(&path(&task, 1)).send().await.expect(204);
    assert_eq!(gone.header("etag"), Some("\"2\""));
    bob.get(&path(&task, 1)).send().await.expect(404);
    bob.delete(&path(&task, 1)).send().await.expect(404);
    stage.files_are(2).await;
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
    stage.files_are(0).await;

    send(&ann, None, &parts).await.expect(201);
    stage.files_are(3).await;
    let bus = crate::support::bus(&stage.worker.amqp_url);
    events::bus::Bus::publish(&bus, &[crate::erasure::deleted("ann")])
        .await
        .unwrap();
    stage.files_are(0).await;
    let events = stage.worker.events().await;
    let changed: Vec<_> = events
        .iter()
        .map(|event| event.data["changed"].clone())
        .collect();
    assert!(changed.contains(&json!(["attachments"])), "{changed:?}");
}
