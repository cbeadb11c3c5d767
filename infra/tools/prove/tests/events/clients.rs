//! Clients that change tasks, retry until they get an answer, and record the answers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use testkit::{Client, Reply, unique};
use tokio::time::sleep;

const PASSWORD: &str = "a river runs through it";
/// After this time, an answer counts as missing, and the request is sent again.
const DEADLINE: Duration = Duration::from_secs(10);
/// Longer than any fault of the proof.
const LONGEST_OUTAGE: Duration = Duration::from_secs(60);
/// Between two attempts of a request.
const PAUSE: Duration = Duration::from_millis(50);
/// The lag is measured for one in so many created tasks.
const SAMPLE: usize = 5;

/// A notification: task, version and type.
pub(crate) type Notice = (String, u64, String);

/// What all clients have done so far.
#[derive(Default)]
pub(crate) struct History {
    operations: AtomicUsize,
    entries: Mutex<Entries>,
}

/// The answers, and what users must be able to read in the end because of them.
#[derive(Default)]
pub(crate) struct Entries {
    pub(crate) people: Vec<Person>,
    /// The number of answers by status; `none` for requests without an answer.
    pub(crate) answers: BTreeMap<String, usize>,
    /// When a 201 arrived, and when its notification could be read.
    pub(crate) lags: Vec<(Instant, Instant)>,
    /// Answers that no fault explains.
    pub(crate) wrong: Vec<String>,
}

pub(crate) struct Person {
    pub(crate) user: User,
    /// The notifications that the user must have.
    pub(crate) expected: Vec<Notice>,
    /// The tasks that the user owns and has not deleted, with their versions.
    pub(crate) tasks: BTreeMap<String, u64>,
}

impl History {
    /// The number of changes that were answered.
    pub(crate) fn operations(&self) -> usize {
        self.operations.load(Ordering::Relaxed)
    }

    pub(crate) fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a user; returns the index in [`Entries::people`].
    fn add(&self, user: &User) -> usize {
        let mut entries = self.entries();
        entries.people.push(Person {
            user: user.clone(),
            expected: Vec::new(),
            tasks: BTreeMap::new(),
        });
        entries.people.len() - 1
    }
}

/// The API at all gateways in turn. Counts the answers.
#[derive(Clone)]
pub(crate) struct Api {
    gateways: Vec<Client>,
    turn: usize,
    history: Arc<History>,
}

struct Call<'a> {
    method: Method,
    path: &'a str,
    token: Option<&'a str>,
    header: Option<(&'static str, String)>,
    body: Option<Value>,
}

impl Api {
    pub(crate) fn new(gateways: &[String], turn: usize, history: Arc<History>) -> Self {
        Self {
            gateways: gateways.iter().map(Client::new).collect(),
            turn,
            history,
        }
    }

    /// Sends a request until it gets a final answer. The flag says whether an earlier attempt may have
    /// been carried out.
    async fn answered(&mut self, call: &Call<'_>) -> (Reply, bool) {
        let mut in_doubt = false;
        loop {
            self.turn += 1;
            let gateway = &self.gateways[self.turn % self.gateways.len()];
            let mut request = gateway.request(call.method.clone(), call.path);
            if let Some(token) = call.token {
                request = request.bearer(token);
            }
            if let Some((name, value)) = &call.header {
                request = request.header(name, value);
            }
            if let Some(body) = &call.body {
                request = request.json(body);
            }
            let reply = request.deadline(DEADLINE).try_send().await;
            let what = reply
                .as_ref()
                .map_or("none".to_owned(), |reply| reply.status.as_str().to_owned());
            *self.history.entries().answers.entry(what).or_default() += 1;
            match reply {
                // The request was not carried out.
                Ok(reply) if reply.status == 429 => {}
                Ok(reply) if matches!(reply.status.as_u16(), 502..=504) => in_doubt = true,
                // An earlier attempt with this idempotency key is still running.
                Ok(reply) if reply.status == 409 && reply.header("retry-after").is_some() => {}
                Ok(reply) => return (reply, in_doubt),
                Err(_) => in_doubt = true,
            }
            sleep(PAUSE).await;
        }
    }
}

/// A user who is logged in, and logs in again when the token has expired.
#[derive(Clone)]
pub(crate) struct User {
    email: String,
    id: String,
    token: String,
}

impl User {
    async fn register(api: &mut Api) -> Self {
        let email = format!("{}@example.com", unique("user"));
        let call = Call {
            method: Method::POST,
            path: "/api/users/register",
            token: None,
            header: Some(("idempotency-key", unique("key"))),
            body: Some(json!({"email": email, "name": "Ada", "password": PASSWORD})),
        };
        let created = api.answered(&call).await.0.expect(201).json();
        let mut user = Self {
            email,
            id: text(&created, "id"),
            token: String::new(),
        };
        user.log_in(api).await;
        user
    }

    async fn log_in(&mut self, api: &mut Api) {
        let call = Call {
            method: Method::POST,
            path: "/api/users/login",
            token: None,
            header: None,
            body: Some(json!({"email": self.email, "password": PASSWORD})),
        };
        let session = api.answered(&call).await.0.expect(200).json();
        self.token = text(&session, "access_token");
    }

    async fn call(
        &mut self,
        api: &mut Api,
        method: Method,
        path: &str,
        header: Option<(&'static str, String)>,
        body: Option<Value>,
    ) -> (Reply, bool) {
        loop {
            let call = Call {
                method: method.clone(),
                path,
                token: Some(&self.token),
                header: header.clone(),
                body: body.clone(),
            };
            let answered = api.answered(&call).await;
            if answered.0.status != 401 {
                return answered;
            }
            self.log_in(api).await;
        }
    }

    /// All items of a list, over all pages.
    pub(crate) async fn list(&mut self, api: &mut Api, path: &str) -> Vec<Value> {
        let (mut items, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = format!("{path}?limit=100{cursor}");
            let (reply, _) = self.call(api, Method::GET, &page, None, None).await;
            let mut page = reply.expect(200).json();
            if let Value::Array(more) = page["items"].take() {
                items.extend(more);
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
        }
    }

    pub(crate) async fn unread(&mut self, api: &mut Api) -> Value {
        let path = "/api/notifications/unread-count";
        let (reply, _) = self.call(api, Method::GET, path, None, None).await;
        reply.expect(200).json()["count"].take()
    }

    pub(crate) fn owns(&self, task: &Value) -> bool {
        task["owner_id"] == self.id
    }

    pub(crate) fn email(&self) -> &str {
        &self.email
    }
}

/// Creates, changes and deletes tasks until `stop`. Every second task is assigned to another user, who
/// gets its notifications.
pub(crate) async fn run(
    n: usize,
    gateways: Vec<String>,
    history: Arc<History>,
    stop: Arc<AtomicBool>,
) {
    let mut api = Api::new(&gateways, n, history.clone());
    let mut owner = User::register(&mut api).await;
    let mut assignee = User::register(&mut api).await;
    let places = (history.add(&owner), history.add(&assignee));
    let mut round = 0;
    while !stop.load(Ordering::Acquire) {
        round += 1;
        let is_shared = round % 2 == 0;
        let mut task = TaskLife {
            api: &mut api,
            history: &history,
            owner: &mut owner,
            owner_place: places.0,
            recipient: if is_shared { places.1 } else { places.0 },
            task: String::new(),
            version: 0,
        };
        let assigned = is_shared.then_some(&assignee);
        if !task.create(assigned).await {
            continue;
        }
        if round % SAMPLE == 0 {
            let reader = is_shared.then_some(&mut assignee);
            task.measure_lag(reader).await;
        }
        for change in 0..round % 4 {
            task.change(&format!("{round}.{change}")).await;
        }
        if round % 3 == 0 {
            task.delete().await;
        }
    }
}

/// One task, from its creation to its deletion.
struct TaskLife<'a> {
    api: &'a mut Api,
    history: &'a History,
    owner: &'a mut User,
    owner_place: usize,
    /// The index of the user who gets its notifications.
    recipient: usize,
    task: String,
    version: u64,
}

impl TaskLife<'_> {
    async fn create(&mut self, assignee: Option<&User>) -> bool {
        let mut body = json!({"title": "new"});
        if let Some(assignee) = assignee {
            body["assignee_id"] = json!(assignee.id);
        }
        let key = Some(("idempotency-key", unique("key")));
        let (reply, _) = self
            .owner
            .call(self.api, Method::POST, "/api/tasks", key, Some(body))
            .await;
        if reply.status != 201 {
            self.wrong("a creation", &reply);
            return false;
        }
        self.task = text(&reply.json(), "id");
        self.record("task.created", 1);
        true
    }

    async fn change(&mut self, title: &str) {
        let path = format!("/api/tasks/{}", self.task);
        let body = Some(json!({"title": title}));
        let (reply, in_doubt) = self
            .owner
            .call(self.api, Method::PATCH, &path, self.if_match(), body)
            .await;
        let changed = match reply.status.as_u16() {
            200 => reply.json(),
            // An attempt without an answer was carried out.
            412 if in_doubt => {
                let (now, _) = self
                    .owner
                    .call(self.api, Method::GET, &path, None, None)
                    .await;
                now.json()
            }
            _ => return self.wrong("a change", &reply),
        };
        if changed["version"] != self.version + 1 || changed["title"] != title {
            return self.wrong("a change", &reply);
        }
        self.record("task.updated", self.version + 1);
    }

    async fn delete(&mut self) {
        let path = format!("/api/tasks/{}", self.task);
        let (reply, _) = self
            .owner
            .call(self.api, Method::DELETE, &path, self.if_match(), None)
            .await;
        match reply.status.as_u16() {
            // 404 is fine too: a gateway may have sent the request a second time, to another replica. If
            // the deletion had not been carried out, the list of tasks would show it in the end.
            204 | 404 => self.record("task.deleted", self.version + 1),
            _ => self.wrong("a deletion", &reply),
        }
    }

    /// Measures how soon the notification of the creation can be read.
    async fn measure_lag(&mut self, reader: Option<&mut User>) {
        let reader = reader.unwrap_or(&mut *self.owner);
        let answered = Instant::now();
        let path = "/api/notifications?limit=20";
        while answered.elapsed() < LONGEST_OUTAGE {
            let (reply, _) = reader.call(self.api, Method::GET, path, None, None).await;
            let page = reply.json();
            let items = page["items"].as_array();
            if items.is_some_and(|items| items.iter().any(|item| item["task_id"] == self.task)) {
                break;
            }
            sleep(Duration::from_millis(5)).await;
        }
        self.history.entries().lags.push((answered, Instant::now()));
    }

    fn if_match(&self) -> Option<(&'static str, String)> {
        Some(("if-match", format!("\"{}\"", self.version)))
    }

    fn record(&mut self, kind: &str, version: u64) {
        self.version = version;
        let mut entries = self.history.entries();
        let notice = (self.task.clone(), version, kind.to_owned());
        entries.people[self.recipient].expected.push(notice);
        let tasks = &mut entries.people[self.owner_place].tasks;
        match kind {
            "task.deleted" => tasks.remove(&self.task),
            _ => tasks.insert(self.task.clone(), version),
        };
        self.history.operations.fetch_add(1, Ordering::Relaxed);
    }

    fn wrong(&self, what: &str, reply: &Reply) {
        let task = &self.task;
        self.history
            .entries()
            .wrong
            .push(format!("{what} of {task}: {reply:?}"));
    }
}

pub(crate) fn text(object: &Value, name: &str) -> String {
    let text = object[name].as_str();
    text.unwrap_or_else(|| panic!("no `{name}` in {object}"))
        .to_owned()
}
