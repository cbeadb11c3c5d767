//! The steps of the demo, in order. Each sends requests, shows the answers, and makes the checks that
//! apply to these answers only.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use http::header::{ACCEPT, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderName, Method};
use serde_json::{Value, json};

use super::change::{Change, is_within};
use super::conformance::{self, NOTIFICATION, TASK, TOKENS, USER};
use super::exchange::{Answer, Call, Http};
use super::screen::Screen;
use crate::stream::Stream;

/// How long to wait for a notification.
const MAX_WAIT: Duration = Duration::from_secs(15);
/// How long the stream must stay silent after the last notification: a duplicate would follow closely.
const QUIET_TIME: Duration = Duration::from_millis(300);
const PASSWORD: &str = "a river runs through it";

pub(super) struct Account {
    id: String,
    email: String,
}

pub(super) struct Login {
    user_id: String,
    token: String,
}

#[derive(Clone)]
pub(super) struct Task {
    id: String,
    path: String,
    etag: String,
    version: u64,
}

pub(super) struct Story<'a> {
    http: Http,
    screen: Screen<'a>,
    changes: Vec<Change>,
}

impl<'a> Story<'a> {
    pub(super) fn new(base_url: &str, mut screen: Screen<'a>) -> anyhow::Result<Self> {
        let http = Http::new(base_url)?;
        screen.line(&format!("The main job, end to end, at {}", http.base()))?;
        Ok(Self {
            http,
            screen,
            changes: Vec::new(),
        })
    }

    async fn exchange(&mut self, call: Call) -> anyhow::Result<Answer> {
        self.http.exchange(call, &mut self.screen).await
    }

    pub(super) async fn registers(&mut self) -> anyhow::Result<Account> {
        self.screen.step("A client registers")?;
        let email = format!("{}@example.com", contract::id::UserId::new());
        let body = json!({"email": email, "password": PASSWORD, "name": "Ada"});
        let call = Call::new(Method::POST, "/api/users/register", 201).json(body);
        let mut answer = self.exchange(call).await?;
        answer.require(conformance::members(&answer.json, USER))?;
        let id = answer.text("/id")?;
        let location = answer.header("location").map(str::to_owned);
        answer.check(
            location.is_some_and(|l| l.starts_with("/api/users/")),
            "Location of the user",
        )?;
        let same = answer.json["email"] == email && answer.json["name"] == "Ada";
        answer.check(same, "the user as sent, without the password")?;
        answer.pass(&mut self.screen)?;
        Ok(Account { id, email })
    }

    pub(super) async fn logs_in(&mut self, account: &Account) -> anyhow::Result<Login> {
        self.screen.step("It logs in")?;
        let body = json!({"email": account.email, "password": PASSWORD});
        let call = Call::new(Method::POST, "/api/users/login", 200).json(body);
        let mut answer = self.exchange(call).await?;
        answer.require(conformance::members(&answer.json, TOKENS))?;
        answer.require(conformance::members(&answer.json["user"], USER))?;
        let bearer = answer.json["token_type"] == "Bearer" && answer.json["expires_in"] == 600;
        answer.check(bearer, "a bearer token for ten minutes")?;
        let token = answer.text("/access_token")?;
        answer.check(token.split('.').count() == 3, "a JWT")?;
        answer.check(answer.json["user"]["id"] == account.id, "the same user")?;
        answer.pass(&mut self.screen)?;

        let mut answer = self
            .exchange(Call::get("/api/users/me", 200).bearer(&token)?)
            .await?;
        answer.require(conformance::members(&answer.json, USER))?;
        answer.check(
            answer.json["id"] == account.id,
            "the token speaks for this user",
        )?;
        answer.pass(&mut self.screen)?;
        Ok(Login {
            user_id: account.id.clone(),
            token,
        })
    }

    pub(super) async fn listens(&mut self, login: &Login) -> anyhow::Result<Stream> {
        self.screen.step("It listens for its notifications")?;
        let call = Call::get("/api/notifications/stream", 200)
            .bearer(&login.token)?
            .header(ACCEPT, "text/event-stream")?;
        let (answer, body) = self.http.open(call, &mut self.screen).await?;
        answer.pass(&mut self.screen)?;
        Ok(Stream::read(body))
    }

    pub(super) async fn creates_a_task(&mut self, login: &Login) -> anyhow::Result<Task> {
        self.screen.step("It creates a task")?;
        let body = json!({"title": "Water the plants", "priority": "high", "tags": ["home"]});
        self.add(login, "/api/tasks", body).await
    }

    pub(super) async fn uploads_a_task(&mut self, login: &Login) -> anyhow::Result<Task> {
        self.screen.step("It uploads another")?;
        let body = json!({"title": "Read the meter", "description": "In the cellar",
            "due_at": "2030-01-31T09:00:00.000Z"});
        self.add(login, "/api/tasks/upload", body).await
    }

    async fn add(&mut self, login: &Login, path: &str, sent: Value) -> anyhow::Result<Task> {
        let call = Call::new(Method::POST, path, 201)
            .json(sent.clone())
            .bearer(&login.token)?;
        let mut answer = self.exchange(call).await?;
        answer.require(conformance::members(&answer.json, TASK))?;
        let task = self.task_of(&mut answer)?;
        let location = answer.header("location").map(str::to_owned);
        answer.check(
            location.as_ref() == Some(&task.path),
            "Location of the task",
        )?;
        answer.check(is_within(&sent, &answer.json), "the task as sent")?;
        let own = answer.json["owner_id"] == login.user_id && answer.json["status"] == "todo";
        answer.check(own && task.version == 1, "its own, to do, version 1")?;
        answer.pass(&mut self.screen)?;
        self.expect_notification("task.created", &task);
        Ok(task)
    }

    pub(super) async fn finds_both(
        &mut self,
        login: &Login,
        first: &Task,
        second: &Task,
    ) -> anyhow::Result<()> {
        self.screen.step("It finds them again")?;
        let mut answer = self
            .exchange(Call::get("/api/tasks", 200).bearer(&login.token)?)
            .await?;
        let ids: Vec<_> = answer
            .items(TASK)?
            .iter()
            .map(|task| task["id"].clone())
            .collect();
        let newest_first = ids == [json!(second.id), json!(first.id)];
        answer.check(newest_first, "both tasks, newest first")?;
        answer.check(answer.json["next_cursor"].is_null(), "no further page")?;
        answer.pass(&mut self.screen)?;

        let mut answer = self
            .exchange(Call::get(&first.path, 200).bearer(&login.token)?)
            .await?;
        answer.require(conformance::members(&answer.json, TASK))?;
        let etag = answer.header("etag") == Some(&first.etag);
        answer.check(etag, "the same ETag as when it was created")?;
        answer.pass(&mut self.screen)?;

        let call = Call::get(&first.path, 304)
            .bearer(&login.token)?
            .header(IF_NONE_MATCH, &first.etag)?;
        let mut answer = self.exchange(call).await?;
        answer.check(true, "nothing is sent twice")?;
        answer.pass(&mut self.screen)
    }

    pub(super) async fn changes(&mut self, login: &Login, task: Task) -> anyhow::Result<Task> {
        self.screen.step("It changes the first")?;
        let patch = json!({"status": "in_progress", "due_at": "2030-02-01T08:30:00.000Z"});
        let call = |status| {
            Call::new(Method::PATCH, &task.path, status)
                .json(patch.clone())
                .header(IF_MATCH, &task.etag)?
                .bearer(&login.token)
        };
        let mut answer = self.exchange(call(200)?).await?;
        answer.require(conformance::members(&answer.json, TASK))?;
        let changed = self.task_of(&mut answer)?;
        answer.check(is_within(&patch, &answer.json), "the change")?;
        let kept = answer.json["title"] == "Water the plants";
        answer.check(kept, "everything else as before")?;
        let next = changed.version == task.version + 1 && changed.etag != task.etag;
        answer.check(next, "version 2 under a new ETag")?;
        answer.pass(&mut self.screen)?;
        self.expect_notification("task.updated", &changed);

        let mut answer = self.exchange(call(412)?).await?;
        answer.check(true, "a change to what is no longer there is refused")?;
        answer.pass(&mut self.screen)?;
        Ok(changed)
    }

    pub(super) async fn deletes(&mut self, login: &Login, task: &Task) -> anyhow::Result<()> {
        self.screen.step("It deletes it")?;
        let call = Call::new(Method::DELETE, &task.path, 204).bearer(&login.token)?;
        let answer = self.exchange(call).await?;
        answer.pass(&mut self.screen)?;
        let deleted = Task {
            version: task.version + 1,
            ..task.clone()
        };
        self.expect_notification("task.deleted", &deleted);

        let mut answer = self
            .exchange(Call::get(&task.path, 404).bearer(&login.token)?)
            .await?;
        answer.check(true, "it is gone")?;
        answer.pass(&mut self.screen)
    }

    /// Each change's notification arrives once, with rising sequence numbers, and no others arrive.
    pub(super) async fn receives_every_notification(
        &mut self,
        stream: &mut Stream,
    ) -> anyhow::Result<()> {
        self.screen.step("Its notifications arrive, each once")?;
        let mut missing: Vec<_> = self.changes.iter().collect();
        let mut last = None;
        while !missing.is_empty() {
            let Some(arrival) = stream.next_within(MAX_WAIT).await? else {
                let (kind, version) = (missing[0].kind, missing[0].version);
                bail!(
                    "the notification of {kind} (version {version}) did not come within {MAX_WAIT:?}"
                );
            };
            let notification = &arrival.notification;
            conformance::members(notification, NOTIFICATION)
                .map_err(anyhow::Error::msg)
                .with_context(|| format!("a notification violates the contract: {notification}"))?;
            let place = missing
                .iter()
                .position(|change| change.matches(notification));
            let Some(place) = place else {
                bail!("a notification came twice, or belongs to no change: {notification}");
            };
            if last
                .replace(arrival.sequence)
                .is_some_and(|last| last >= arrival.sequence)
            {
                bail!(
                    "the event ids do not rise: {} came after {last:?}",
                    arrival.sequence
                );
            }
            let change = missing.remove(place);
            let took = arrival.at.saturating_duration_since(change.answered);
            let head = format!(
                "id {}, {:.1} ms after the answer",
                arrival.sequence,
                ms(took)
            );
            self.screen.event(&head, notification)?;
        }
        if let Some(arrival) = stream.next_within(QUIET_TIME).await? {
            bail!("one notification too many came: {}", arrival.notification);
        }
        let facts = [
            format!("all {}", self.changes.len()),
            "each once".to_owned(),
            "ids rise".to_owned(),
        ];
        Ok(self.screen.passed(&facts)?)
    }

    pub(super) async fn reads_its_notifications(&mut self, login: &Login) -> anyhow::Result<()> {
        self.screen.step("It reads them")?;
        let list = Call::get("/api/notifications", 200).bearer(&login.token)?;
        let mut answer = self.exchange(list).await?;
        let items = answer.items(NOTIFICATION)?;
        let complete = items.len() == self.changes.len()
            && self
                .changes
                .iter()
                .all(|change| items.iter().any(|item| change.matches(item)));
        let ordered = items.windows(2).all(|pair| {
            let of_one_task = pair[0]["task_id"] == pair[1]["task_id"];
            !of_one_task || pair[0]["task_version"].as_u64() > pair[1]["task_version"].as_u64()
        });
        let path = items.first().and_then(|item| item["id"].as_str());
        let path = path.map(|id| format!("/api/notifications/{id}"));
        answer.check(complete, "the same notifications")?;
        answer.check(ordered, "each task's latest version first")?;
        answer.pass(&mut self.screen)?;

        let count = self.changes.len() as u64;
        self.unread(login, count).await?;
        let call = Call::new(Method::PATCH, path.context("the list is empty")?, 200)
            .json(json!({"read": true}))
            .bearer(&login.token)?;
        let mut answer = self.exchange(call).await?;
        answer.require(conformance::members(&answer.json, NOTIFICATION))?;
        answer.check(answer.json["read"] == true, "marked as read")?;
        answer.pass(&mut self.screen)?;
        self.unread(login, count - 1).await
    }

    async fn unread(&mut self, login: &Login, count: u64) -> anyhow::Result<()> {
        let call = Call::get("/api/notifications/unread-count", 200).bearer(&login.token)?;
        let mut answer = self.exchange(call).await?;
        answer.check(
            answer.json == json!({"count": count}),
            &format!("{count} unread"),
        )?;
        answer.pass(&mut self.screen)
    }

    pub(super) async fn is_refused_without_a_token(&mut self) -> anyhow::Result<()> {
        self.screen.step("Without a token nobody gets in")?;
        let mut answer = self
            .exchange(Call::get("/api/tasks", 401).unlimited())
            .await?;
        let asks = answer
            .header("www-authenticate")
            .is_some_and(|v| v.starts_with("Bearer"));
        answer.check(asks, "WWW-Authenticate asks for a bearer token")?;
        answer.pass(&mut self.screen)
    }

    pub(super) async fn cannot_be_somebody_else(&mut self, login: &Login) -> anyhow::Result<()> {
        self.screen.step("A forged x-user-id changes nothing")?;
        let somebody = contract::id::UserId::new();
        let call = Call::get("/api/users/me", 200)
            .bearer(&login.token)?
            .header(HeaderName::from_static("x-user-id"), somebody.as_str())?;
        let mut answer = self.exchange(call).await?;
        answer.check(
            answer.json["id"] == login.user_id,
            "the answer is the token's user",
        )?;
        answer.pass(&mut self.screen)
    }

    pub(super) fn finish(mut self, took: Duration) -> anyhow::Result<()> {
        let text = format!(
            "\nAll as the contract says, in {:.2} s.",
            took.as_secs_f64()
        );
        Ok(self.screen.line(&text)?)
    }

    fn expect_notification(&mut self, kind: &'static str, task: &Task) {
        self.changes.push(Change {
            kind,
            task_id: task.id.clone(),
            version: task.version,
            answered: Instant::now(),
        });
    }

    fn task_of(&self, answer: &mut Answer) -> anyhow::Result<Task> {
        let id = answer.text("/id")?;
        let etag = answer.header("etag").unwrap_or_default().to_owned();
        answer.check(etag.starts_with('"'), "a strong ETag")?;
        let version = answer.json["version"].as_u64();
        answer.check(version.is_some(), "a version")?;
        Ok(Task {
            path: format!("/api/tasks/{id}"),
            id,
            etag,
            version: version.unwrap_or_default(),
        })
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
