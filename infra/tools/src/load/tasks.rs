//! The tasks of the load: enough of them to read, and afterwards the count of those that the writes
//! have made, taken from the platform itself.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use http::Method;
use serde_json::{Value, json};

use super::api::{Api, Ask};

/// What a page holds when nothing else is asked for.
const PAGE: usize = 20;
/// How long the notifications of a run may lag behind the answers, and the deletion of its tasks behind
/// that of the account: this much, and a second more for
/// every so many.
const PATIENCE: Duration = Duration::from_secs(30);
const SLOWEST_PER_SECOND: u64 = 100;
/// Well below the life of an access token.
pub(super) const LONGEST_PATIENCE: Duration = Duration::from_secs(5 * 60);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long the count must stay right: a duplicate would follow closely.
const SILENCE: Duration = Duration::from_secs(1);

/// Sees to it that the user's first page of tasks is full.
pub(super) async fn stock(api: &Api, token: &str) -> anyhow::Result<()> {
    let list = api.must(&Ask::get("/api/tasks"), Some(token), 200).await?;
    let there = list.json()["items"].as_array().map_or(0, Vec::len);
    for number in there..PAGE {
        let task = json!({"title": format!("Task {number} to be read"), "tags": ["load"]});
        let ask = Ask::json(Method::POST, "/api/tasks", &task);
        api.must(&ask, Some(token), 201).await?;
    }
    Ok(())
}

/// What the platform says of `created` writes that it answered 201: so many tasks exist beside
/// `witnessed` ones, and so many notifications, each once. `Err` inside is what differs.
pub(super) async fn count(
    api: &Api,
    token: &str,
    created: u64,
    witnessed: u64,
) -> anyhow::Result<Result<String, String>> {
    let ended = Instant::now();
    // Of the witnessed task its assignee is told, not its owner.
    let all = tasks(api, token, created + witnessed).await?;
    let tasks = all.saturating_sub(witnessed);
    if tasks != created {
        return Ok(Err(format!(
            "{created} tasks were created (201), the list has {tasks}"
        )));
    }
    let patience = patience(created);
    let mut unread = unread(api, token).await?;
    while unread < created && ended.elapsed() < patience {
        tokio::time::sleep(LOOK_EVERY).await;
        unread = self::unread(api, token).await?;
    }
    let took = ended.elapsed();
    if unread == created {
        tokio::time::sleep(SILENCE).await;
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

/// The first task of a writer, which a witness may read too: when the writer is deleted, the platform
/// deletes the writer's tasks beginning with the newest, so this one goes last.
pub(super) struct Witnessed(Ask);

impl Witnessed {
    pub(super) async fn create(api: &Api, writer: &str, witness: &str) -> anyhow::Result<Self> {
        let me = Ask::get("/api/users/me");
        let id = &api.must(&me, Some(witness), 200).await?.json()["id"];
        let task = json!({"title": "Outlast the others", "tags": ["load"], "assignee_id": id});
        let ask = Ask::json(Method::POST, "/api/tasks", &task);
        let task = api.must(&ask, Some(writer), 201).await?.json();
        let id = task["id"].as_str().context("a task without an id")?;
        Ok(Self(Ask::get(&format!("/api/tasks/{id}"))))
    }

    /// Waits until the platform has deleted it, after `created` others: it would be busy with that
    /// during the next measurement. `Err` inside is that it has not.
    pub(super) async fn gone(
        &self,
        api: &Api,
        witness: &str,
        created: u64,
    ) -> anyhow::Result<Result<(), String>> {
        let begun = Instant::now();
        let patience = patience(created);
        while begun.elapsed() < patience {
            let answer = api.patiently(&self.0, Some(witness), &mut |_| ()).await?;
            match answer.status {
                404 => return Ok(Ok(())),
                200 => tokio::time::sleep(LOOK_EVERY).await,
                _ => bail!("{} answered {}", self.0, answer.told()),
            }
        }
        Ok(Err(format!(
            "tasks of the deleted account are still there after {patience:.0?}"
        )))
    }
}

fn patience(created: u64) -> Duration {
    (PATIENCE + Duration::from_secs(created / SLOWEST_PER_SECOND)).min(LONGEST_PATIENCE)
}

/// How many tasks the list has, each counted once, read to its end.
async fn tasks(api: &Api, token: &str, expected: u64) -> anyhow::Result<u64> {
    let mut seen = HashSet::new();
    let mut path = "/api/tasks?limit=100".to_owned();
    // Bounded also when the list should never end.
    for _ in 0..expected / 100 + 10 {
        let page = api.must(&Ask::get(&path), Some(token), 200).await?.json();
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
    let ask = Ask::get("/api/notifications/unread-count");
    let answer = api.must(&ask, Some(token), 200).await?;
    let count = answer.json()["count"].as_u64();
    count.with_context(|| format!("{ask} answered {}", answer.told()))
}
