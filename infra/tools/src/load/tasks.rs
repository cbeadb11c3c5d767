//! The tasks of the load: creates enough for a full page before the load, and afterwards counts, over
//! the API, those that the writes have created.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use http::Method;
use serde_json::{Value, json};

use super::api::{Api, Call};

/// The default size of a page.
const PAGE: usize = 20;
/// How long the notifications of a run may lag behind the answers, and the deletion of its tasks behind
/// that of the account: this much, and one second more for every [`SLOWEST_PER_SECOND`] tasks.
const MIN_WAIT: Duration = Duration::from_secs(30);
const SLOWEST_PER_SECOND: u64 = 100;
/// Well below the lifetime of an access token.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(5 * 60);
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How long the count must stay correct: a duplicate would follow closely.
const QUIET_TIME: Duration = Duration::from_secs(1);

/// Creates tasks until the user's first page is full.
pub(super) async fn fill_first_page(api: &Api, token: &str) -> anyhow::Result<()> {
    let list = api
        .expect_status(&Call::get("/api/tasks"), Some(token), 200)
        .await?;
    let existing = list.json()["items"].as_array().map_or(0, Vec::len);
    for number in existing..PAGE {
        let task = json!({"title": format!("Task {number} to be read"), "tags": ["load"]});
        let call = Call::json(Method::POST, "/api/tasks", &task);
        api.expect_status(&call, Some(token), 201).await?;
    }
    Ok(())
}

/// Checks that `created` writes that were answered 201 have led to as many tasks, besides `shared` tasks
/// that others are assigned to, and to as many notifications. The inner `Err` says what differs.
pub(super) async fn count(
    api: &Api,
    token: &str,
    created: u64,
    shared: u64,
) -> anyhow::Result<Result<String, String>> {
    let ended = Instant::now();
    // A shared task notifies its assignee, not its owner.
    let all = tasks(api, token, created + shared).await?;
    let tasks = all.saturating_sub(shared);
    if tasks != created {
        return Ok(Err(format!(
            "{created} tasks were created (201), the list has {tasks}"
        )));
    }
    let max_wait = max_wait(created);
    let mut unread = unread(api, token).await?;
    while unread < created && ended.elapsed() < max_wait {
        tokio::time::sleep(POLL_INTERVAL).await;
        unread = self::unread(api, token).await?;
    }
    let took = ended.elapsed();
    if unread == created {
        tokio::time::sleep(QUIET_TIME).await;
        unread = self::unread(api, token).await?;
    }
    Ok(match unread == created {
        true => Ok(format!(
            "{created} × 201, {tasks} tasks in the list, {unread} notifications, counted in {:.1} s",
            took.as_secs_f64()
        )),
        false => Err(format!(
            "{created} tasks were created, but there are {unread} notifications {took:.0?} later"
        )),
    })
}

/// The first task of a writer, which its assignee can read too. When the writer is deleted, the platform
/// deletes the writer's tasks from the newest to the oldest, so this one is the last to go.
pub(super) struct SharedTask(Call);

impl SharedTask {
    pub(super) async fn create(api: &Api, writer: &str, reader: &str) -> anyhow::Result<Self> {
        let me = Call::get("/api/users/me");
        let id = &api.expect_status(&me, Some(reader), 200).await?.json()["id"];
        let task = json!({"title": "Outlast the others", "tags": ["load"], "assignee_id": id});
        let call = Call::json(Method::POST, "/api/tasks", &task);
        let task = api.expect_status(&call, Some(writer), 201).await?.json();
        let id = task["id"].as_str().context("a task without an id")?;
        Ok(Self(Call::get(&format!("/api/tasks/{id}"))))
    }

    /// Waits until the platform has deleted this task, after `created` others; otherwise the deletion
    /// would disturb the next measurement. The inner `Err` says that it was not deleted in time.
    pub(super) async fn wait_until_deleted(
        &self,
        api: &Api,
        reader: &str,
        created: u64,
    ) -> anyhow::Result<Result<(), String>> {
        let started = Instant::now();
        let max_wait = max_wait(created);
        while started.elapsed() < max_wait {
            let answer = api
                .call_with_retry(&self.0, Some(reader), &mut |_| ())
                .await?;
            match answer.status {
                404 => return Ok(Ok(())),
                200 => tokio::time::sleep(POLL_INTERVAL).await,
                _ => bail!("{} answered {}", self.0, answer.summary()),
            }
        }
        Ok(Err(format!(
            "tasks of the deleted account are still there after {max_wait:.0?}"
        )))
    }
}

fn max_wait(created: u64) -> Duration {
    (MIN_WAIT + Duration::from_secs(created / SLOWEST_PER_SECOND)).min(MAX_WAIT)
}

/// How many different tasks the list has, over all its pages.
async fn tasks(api: &Api, token: &str, expected: u64) -> anyhow::Result<u64> {
    let mut seen = HashSet::new();
    let mut path = "/api/tasks?limit=100".to_owned();
    // Bounded, even if the list never ends.
    for _ in 0..expected / 100 + 10 {
        let page = api
            .expect_status(&Call::get(&path), Some(token), 200)
            .await?
            .json();
        let items = page["items"].as_array().context("the list has no items")?;
        seen.extend(
            items
                .iter()
                .filter_map(|task| task["id"].as_str().map(str::to_owned)),
        );
        match &page["next_cursor"] {
            Value::Null => return Ok(seen.len() as u64),
            Value::String(cursor) => path = format!("/api/tasks?limit=100&cursor={cursor}"),
            other => bail!("`next_cursor` is {other}"),
        }
    }
    Ok(seen.len() as u64)
}

pub(super) async fn unread(api: &Api, token: &str) -> anyhow::Result<u64> {
    let call = Call::get("/api/notifications/unread-count");
    let answer = api.expect_status(&call, Some(token), 200).await?;
    let count = answer.json()["count"].as_u64();
    count.with_context(|| format!("{call} answered {}", answer.summary()))
}
