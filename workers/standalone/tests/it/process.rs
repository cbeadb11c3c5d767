//! The platform as the process that `make run` starts, when it is killed, stopped or started twice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;
use runtime::time::Clock;
use serde_json::{Value, json};
use standalone::platform::Embedded;
use tasks::attachments::Attachments;
use tasks::store::files::FileStore;
use testkit::{Client, Process, eventually, free_port, unique};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::attachments::{content_type, end, file_part, file_path, task_part};
use crate::test_platform::SOON;

const PASSWORD: &str = "a river runs through it";
const KILLS: usize = 20;
const CLIENTS: usize = 8;

struct Running {
    process: Process,
    address: String,
    http: Client,
    admin: Client,
}

impl Running {
    async fn start() -> Self {
        let free = || format!("127.0.0.1:{}", free_port());
        let (address, admin) = (free(), free());
        let launch = Process::named("standalone")
            .program(env!("CARGO_BIN_EXE_standalone"))
            .args(["--listen", &address, "--admin", &admin])
            .args([
                "--data",
                "data",
                "--rate",
                "1000000/s",
                "--burst",
                "1000000",
            ]);
        let running = Self {
            process: launch.start(),
            http: Client::new(format!("http://{address}")),
            admin: Client::new(format!("http://{admin}")),
            address,
        };
        running.ready().await;
        running
    }

    async fn ready(&self) {
        eventually(SOON, async || {
            let reply = self.admin.get("/readyz").try_send().await;
            reply.is_ok_and(|reply| reply.status == 200)
        })
        .await;
    }

    async fn log_in(&self) -> String {
        let credentials = json!({"email": "ada@example.com", "password": PASSWORD});
        let login = self.http.post("/api/users/login").json(&credentials);
        let pair = login.send().await.expect(200).json();
        pair["access_token"].as_str().expect("a token").to_owned()
    }

    async fn register(&self) {
        let account = json!({"email": "ada@example.com", "password": PASSWORD, "name": "Ada"});
        let request = self.http.post("/api/users/register").json(&account);
        request.send().await.expect(201);
    }

    /// Begins an upload of a task and a file of `size` bytes. The caller sends the bytes, and then the
    /// returned end of the form.
    async fn begin_upload(&self, token: &str, title: &str, size: usize) -> (TcpStream, Vec<u8>) {
        let mut begin = task_part(&json!({"title": title}));
        let part = file_part("large", &[]);
        let (head, tail) = part.split_at(part.len() - 2);
        begin.extend_from_slice(head);
        let tail = [tail, &end()].concat();
        let length = (begin.len() + size + tail.len()).to_string();
        let request = self.http.post("/api/tasks/upload").bearer(token);
        let (length, kind) = (("content-length", length.as_str()), content_type());
        let head = request.head(&[length, ("content-type", &kind), ("connection", "close")]);
        let mut stream = TcpStream::connect(&self.address).await.expect("it listens");
        stream.write_all(head.as_bytes()).await.expect("it reads");
        stream.write_all(&begin).await.expect("it reads");
        (stream, tail)
    }

    /// The peak memory of the process, in MiB.
    fn peak(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.pid());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.parse::<u64>().ok()).expect("a size") / 1024
    }

    /// All items of a list, read page by page.
    async fn all(&self, token: &str, path: &str) -> Vec<Value> {
        let (mut items, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.http.get(&format!("{path}?limit=100{cursor}"));
            let page = page.bearer(token).send().await.expect(200).json();
            items.extend(page["items"].as_array().expect("a list").clone());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
        }
    }
}

/// How many requests of the clients have been answered.
#[derive(Default)]
struct Answers {
    count: AtomicUsize,
    came: Notify,
    enough: AtomicBool,
}

impl Answers {
    async fn reach(&self, count: usize) {
        loop {
            let came = self.came.notified();
            if self.count.load(Ordering::SeqCst) >= count {
                return;
            }
            came.await;
        }
    }

    /// Creates one task after another. A request without an answer is repeated with the same key until it
    /// is answered, so each task must be created once.
    async fn create(&self, http: &Client, token: &str) -> Vec<String> {
        let mut made = Vec::new();
        while !self.enough.load(Ordering::SeqCst) {
            let (title, key) = (unique("task"), unique("key"));
            let task = json!({"title": title});
            loop {
                let request = http.post("/api/tasks").bearer(token).json(&task);
                let reply = request.header("idempotency-key", &key).try_send().await;
                match reply.map(|reply| reply.status.as_u16()) {
                    Ok(201) => break,
                    Ok(502..=504 | 409) | Err(_) => tokio::task::yield_now().await,
                    Ok(other) => panic!("{other}"),
                }
            }
            made.push(title);
            self.count.fetch_add(1, Ordering::SeqCst);
            self.came.notify_waiters();
        }
        made
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_under_load_lose_no_answered_write_and_double_none() {
    let mut running = Running::start().await;
    running.register().await;
    let token = running.log_in().await;
    let (answers, http) = (Answers::default(), running.http.clone());
    let kill = async {
        for round in 1..=KILLS {
            // At another point of the work each time.
            answers
                .reach(answers.count.load(Ordering::SeqCst) + 10 + round)
                .await;
            running.process.kill9();
            running.process.start_again();
        }
        running.ready().await;
        answers.enough.store(true, Ordering::SeqCst);
    };
    let created = join_all((0..CLIENTS).map(|_| answers.create(&http, &token)));
    let (created, ()) = tokio::join!(created, kill);
    let made: BTreeSet<String> = created.into_iter().flatten().collect();

    let tasks = running.all(&token, "/api/tasks").await;
    let titles: Vec<_> = tasks
        .iter()
        .map(|task| task["title"].as_str().expect("a text"))
        .collect();
    assert_eq!(titles.len(), made.len(), "each once");
    assert_eq!(
        titles
            .into_iter()
            .map(str::to_owned)
            .collect::<BTreeSet<_>>(),
        made
    );
    eventually(SOON, async || {
        let count = running
            .http
            .get("/api/notifications/unread-count")
            .bearer(&token);
        let count = count.send().await.expect(200).json();
        (count["count"] == made.len())
            .then_some(())
            .ok_or(count.to_string())
    })
    .await;
    let notifications = running.all(&token, "/api/notifications").await;
    let tasks_notified: BTreeSet<_> = notifications
        .iter()
        .map(|notification| notification["task_id"].to_string())
        .collect();
    assert_eq!(
        tasks_notified.len(),
        made.len(),
        "one notification for each task"
    );

    running.process.terminate(SOON).await;
    let left = Embedded::open(&running.process.folder().join("data")).expect("it is free again");
    assert_eq!(left.unfinished_work().await.expect("it opens"), None);
    assert_eq!(left.bus.counts().await.expect("it opens").dead_letters, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_used_by_one_process_and_a_port_that_is_taken_is_named() {
    let running = Running::start().await;
    let data = running.process.folder().join("data");
    let start = async |arguments: &[&str]| {
        let launch = Process::named("second").program(env!("CARGO_BIN_EXE_standalone"));
        let mut second = launch.args(arguments).start();
        let status = second.wait(SOON).await;
        (status.code(), second.log())
    };
    let (code, log) = start(&["--data", data.to_str().expect("a text")]).await;
    assert_eq!(code, Some(1), "{log}");
    let pid = running.process.pid().to_string();
    assert!(log.contains(&pid) && log.contains("--data"), "{log}");

    let taken = running.http.get("/").try_send().await.expect("it answers");
    assert_eq!(taken.status, 404);
    let (code, log) = start(&["--data", "other", "--listen", &running.address]).await;
    assert_eq!((code, log.lines().count()), (Some(1), 1), "{log}");
    assert!(log.contains(&running.address), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_finishes_what_runs_and_the_next_start_knows_everybody() {
    let mut running = Running::start().await;
    running.register().await;
    let token = running.log_in().await;
    let status = running.process.terminate(SOON).await;
    assert!(status.success(), "{}", running.process.log());
    running.process.start_again();
    running.ready().await;
    // The keys are kept, so the token is still valid; so is the password.
    let me = running.http.get("/api/users/me").bearer(&token);
    me.send().await.expect(200);
    running.log_in().await;
}

/// The whole answer, read until the other side closes.
async fn answer(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    String::from_utf8(answer).expect("a text")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_in_and_out_in_little_memory() {
    const BLOCK: usize = 1 << 20;
    let running = Running::start().await;
    running.register().await;
    let token = running.log_in().await;
    let block = |n: usize| vec![n as u8; BLOCK];
    let mut peaks = Vec::new();
    for blocks in [16, 128] {
        let size = blocks * BLOCK;
        let (mut stream, tail) = running.begin_upload(&token, "Large", size).await;
        for n in 0..blocks {
            stream.write_all(&block(n)).await.expect("it reads");
        }
        stream.write_all(&tail).await.expect("it reads");
        let answer = answer(stream).await;
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
        let (_, task) = answer.split_once("\r\n\r\n").expect("a body");
        let task: Value = serde_json::from_str(task).expect("a task");
        assert_eq!(task["attachments"][0]["size"], size);

        let request = running.http.get(&file_path(&task, 0)).bearer(&token);
        let head = request.head(&[("connection", "close")]);
        let mut stream = TcpStream::connect(&running.address)
            .await
            .expect("it listens");
        stream.write_all(head.as_bytes()).await.expect("it reads");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a head"));
        }
        let mut read = vec![0; BLOCK];
        for n in 0..blocks {
            stream.read_exact(&mut read).await.expect("a block");
            assert!(read == block(n), "block {n}");
        }
        peaks.push(running.peak());
    }
    assert!(peaks[1] - peaks[0] < 16, "{peaks:?} MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_a_kill_cuts_off_is_never_seen_and_what_it_left_is_in_doubt() {
    let mut running = Running::start().await;
    running.register().await;
    let token = running.log_in().await;
    let (mut stream, _) = running.begin_upload(&token, "Half", 4 << 20).await;
    stream.write_all(&vec![7; 2 << 20]).await.expect("it reads");
    let data = running.process.folder().join("data");
    let doubt = data.join("attachments").join("doubt");
    let begun = || std::fs::read_dir(&doubt).expect("a folder").count();
    eventually(SOON, async || {
        (begun() == 1).then_some(()).ok_or("nothing was begun")
    })
    .await;
    running.process.kill9();
    running.process.start_again();
    running.ready().await;
    assert_eq!(running.all(&token, "/api/tasks").await, Vec::<Value>::new());
    running.process.terminate(SOON).await;

    // The sweep that runs five minutes later.
    let left = Embedded::open(&data).expect("it is free again");
    let now = jiff::Timestamp::now();
    assert_eq!(
        left.files.in_doubt(now, 10).await.expect("it opens").len(),
        1
    );
    let later = FiveMinutesLater(now);
    let attachments = Attachments::new(left.files.clone(), Arc::new(later), 1);
    attachments.sweep(&*left.tasks).await.expect("it opens");
    assert_eq!(begun(), 0);
}

struct FiveMinutesLater(jiff::Timestamp);

impl Clock for FiveMinutesLater {
    fn now(&self) -> jiff::Timestamp {
        self.0 + std::time::Duration::from_secs(301)
    }
}
