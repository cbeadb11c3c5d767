//! Clients that change tasks, never give up, and write down what they were answered.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use testkit::{Client, Reply, unique};
use tokio::time::sleep;

const PASSWORD: &str = "a river runs through it";
/// An answer that takes longer counts as none, and the request is sent again.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longer than any fault of the proof.
const LONGEST_OUTAGE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);
/// Of so many creations one is watched until its notification can be read.
const SAMPLE: usize = 5;

/// What somebody hears of: task, version and type.
pub(crate) type Told = (String, u64, String);

#[derive(Default)]
pub(crate) struct Ledger {
    operations: AtomicUsize,
    book: Mutex<Book>,
}

/// What was answered, so what must be true in the end.
#[derive(Default)]
pub(crate) struct Book {
    pub(crate) people: Vec<Person>,
    /// Answers by what they were: a status, or none.
    pub(crate) answers: BTreeMap<String, usize>,
    /// From a 201 until its notification was read.
    pub(crate) lags: Vec<(Instant, Instant)>,
    /// Answers that no fault explains.
    pub(crate) wrong: Vec<String>,
}

pub(crate) struct Person {
    pub(crate) user: User,
    pub(crate) hears: Vec<Told>,
    /// The tasks that this one owns and has not deleted, with their versions.
    pub(crate) tasks: BTreeMap<String, u64>,
}

impl Ledger {
    /// Changes that were answered.
    pub(crate) fn operations(&self) -> usize {
        self.operations.load(Ordering::Relaxed)
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, user: &User) -> usize {
        let mut book = self.book();
        book.people.push(Person {
            user: user.clone(),
            hears: Vec::new(),
            tasks: BTreeMap::new(),
        });
        book.people.len() - 1
    }
}

/// The gateways, and the answers that they gave.
#[derive(Clone)]
pub(crate) struct Api {
    gateways: Vec<Client>,
    turn: usize,
    ledger: Arc<Ledger>,
}

struct Call<'a> {
    method: Method,
    path: &'a str,
    token: Option<&'a str>,
    header: Option<(&'static str, String)>,
    body: Option<Value>,
}

impl Api {
    pub(crate) fn new(gateways: &[String], turn: usize, ledger: Arc<Ledger>) -> Self {
        Self {
            gateways: gateways.iter().map(Client::new).collect(),
            turn,
            ledger,
        }
    }

    /// Asks until something answers for good. The second is whether an earlier attempt may have been
    /// carried out.
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
            let reply = request.deadline(PATIENCE).try_send().await;
            let what = reply
                .as_ref()
                .map_or("none".to_owned(), |reply| reply.status.as_str().to_owned());
            *self.ledger.book().answers.entry(what).or_default() += 1;
            match reply {
                // Nobody carried it out.
                Ok(reply) if reply.status == 429 => {}
                Ok(reply) if matches!(reply.status.as_u16(), 502..=504) => in_doubt = true,
                // The first attempt with this key is still under way.
                Ok(reply) if reply.status == 409 && reply.header("retry-after").is_some() => {}
                Ok(reply) => return (reply, in_doubt),
                Err(_) => in_doubt = true,
            }
            sleep(PAUSE).await;
        }
    }
}

/// Somebody who is logged in, again where the token has expired.
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

    /// All items of a list, page by page.
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

/// Creates, changes and deletes tasks until `stop`: of every second one another user hears.
pub(crate) async fn work(
    n: usize,
    gateways: Vec<String>,
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
) {
    let mut api = Api::new(&gateways, n, ledger.clone());
    let mut owner = User::register(&mut api).await;
    let mut assignee = User::register(&mut api).await;
    let places = (ledger.enter(&owner), ledger.enter(&assignee));
    let mut round = 0;
    while !stop.load(Ordering::Acquire) {
        round += 1;
        let is_shared = round % 2 == 0;
        let mut story = Story {
            api: &mut api,
            ledger: &ledger,
            owner: &mut owner,
            owner_place: places.0,
            hearer: if is_shared { places.1 } else { places.0 },
            task: String::new(),
            version: 0,
        };
        let assigned = is_shared.then_some(&assignee);
        if !story.create(assigned).await {
            continue;
        }
        if round % SAMPLE == 0 {
            let reader = is_shared.then_some(&mut assignee);
            story.watch(reader).await;
        }
        for change in 0..round % 4 {
            story.change(&format!("{round}.{change}")).await;
        }
        if round % 3 == 0 {
            story.delete().await;
        }
    }
}

/// The life of one task.
struct Story<'a> {
    api: &'a mut Api,
    ledger: &'a Ledger,
    owner: &'a mut User,
    owner_place: usize,
    /// Who hears of it.
    hearer: usize,
    task: String,
    version: u64,
}

impl Story<'_> {
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
        self.done("task.created", 1);
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
            // The attempt that was not answered was carried out.
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
        self.done("task.updated", self.version + 1);
    }

    async fn delete(&mut self) {
        let path = format!("/api/tasks/{}", self.task);
        let (reply, _) = self
            .owner
            .call(self.api, Method::DELETE, &path, self.if_match(), None)
            .await;
        match reply.status.as_u16() {
            // Gone is gone: a gateway too may have sent it a second time, to another replica. Had it not
            // been carried out, the task would be in the list.
            204 | 404 => self.done("task.deleted", self.version + 1),
            _ => self.wrong("a deletion", &reply),
        }
    }

    /// Measures how soon the notification of the creation can be read.
    async fn watch(&mut self, reader: Option<&mut User>) {
        let reader = reader.unwrap_or(&mut *self.owner);
        let answered = Instant::now();
        let path = "/api/notifications?limit=20";
        while answered.elapsed() < LONGEST_OUTAGE {
            let (reply, _) = reader.call(self.api, Method::GET, path, None, None).await;
            let page = reply.json();
            let items = page["items"].as_array();
            if items.is_some_and(|items| items.iter().any(|one| one["task_id"] == self.task)) {
                break;
            }
            sleep(Duration::from_millis(5)).await;
        }
        self.ledger.book().lags.push((answered, Instant::now()));
    }

    fn if_match(&self) -> Option<(&'static str, String)> {
        Some(("if-match", format!("\"{}\"", self.version)))
    }

    fn done(&mut self, kind: &str, version: u64) {
        self.version = version;
        let mut book = self.ledger.book();
        let told = (self.task.clone(), version, kind.to_owned());
        book.people[self.hearer].hears.push(told);
        let tasks = &mut book.people[self.owner_place].tasks;
        match kind {
            "task.deleted" => tasks.remove(&self.task),
            _ => tasks.insert(self.task.clone(), version),
        };
        self.ledger.operations.fetch_add(1, Ordering::Relaxed);
    }

    fn wrong(&self, what: &str, reply: &Reply) {
        let task = &self.task;
        self.ledger
            .book()
            .wrong
            .push(format!("{what} of {task}: {reply:?}"));
    }
}

pub(crate) fn text(object: &Value, name: &str) -> String {
    let text = object[name].as_str();
    text.unwrap_or_else(|| panic!("no `{name}` in {object}"))
        .to_owned()
}
