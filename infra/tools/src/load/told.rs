//! How long after its 201 a change is told. Listeners with open event streams create tasks beside the
//! load, each at its own beat, and note when their streams hand them the notifications.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use http::Method;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;

use super::api::{Answer, Api, Ask};
use super::lane::Actor;
use super::ledger::MOST_WRONG;
use super::limits::Limits;
use super::oha::Latency;
use super::record::{MixRecord, Row, RowSettings, milliseconds};
use crate::stream::Stream;

/// Of all listeners together: little beside the load, and a p99 after five seconds.
const PER_SECOND: u32 = 24;
/// After this, a notification counts as lost.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the streams must stay silent after the last one: a duplicate would follow closely.
const SILENCE: Duration = Duration::from_secs(1);

/// Users who follow their own notifications.
pub(super) struct Listeners(Vec<Listener>);

struct Listener {
    api: Api,
    actor: Actor,
    stream: Stream,
    /// What it has created, to be deleted again.
    created: Vec<String>,
    limits: Limits,
}

/// What the listeners saw.
#[derive(Default)]
pub(super) struct Told {
    /// Of each task, from its whole 201 to the notification.
    pub(super) lags: Vec<Duration>,
    pub(super) wrong: Vec<String>,
}

impl Listeners {
    pub(super) async fn open(api: &Api, actors: Vec<Actor>) -> anyhow::Result<Self> {
        let mut listeners = Vec::new();
        for actor in actors {
            listeners.push(Listener {
                api: api.clone(),
                stream: api.listen(actor.token.as_deref()).await?,
                actor,
                created: Vec::new(),
                limits: Limits::default(),
            });
        }
        Ok(Self(listeners))
    }

    /// One task of each, told: the streams are alive, and no backlog is before what is measured.
    pub(super) async fn settle(&mut self) -> Vec<String> {
        self.create(1, &CancellationToken::new()).await.wrong
    }

    /// Creates tasks until `ended`, and waits until all are told.
    pub(super) async fn watch(&mut self, ended: &CancellationToken) -> Told {
        self.create(u64::MAX, ended).await
    }

    /// At most so many tasks of each.
    async fn create(&mut self, most: u64, ended: &CancellationToken) -> Told {
        let beat = Duration::from_secs(1) * self.0.len() as u32 / PER_SECOND;
        let count = self.0.len() as u32;
        let mut running = JoinSet::new();
        for (place, mut listener) in (0_u32..).zip(self.0.drain(..)) {
            let (first, ended) = (beat * place / count, ended.clone());
            running.spawn(async move {
                let told = listener.watch(first, beat, most, &ended).await;
                (listener, told)
            });
        }
        let mut all = Told::default();
        while let Some(watched) = running.join_next().await {
            let Ok((listener, told)) = watched else {
                all.wrong.push("a listener was lost".to_owned());
                continue;
            };
            all.lags.extend(told.lags);
            let name = &listener.actor.name;
            let wrong = told.wrong.iter().map(|wrong| format!("{name}: {wrong}"));
            all.wrong.extend(wrong.take(MOST_WRONG));
            self.0.push(listener);
        }
        all
    }

    /// Deletes what they have created.
    pub(super) async fn clean(&mut self) -> anyhow::Result<()> {
        let mut running = JoinSet::new();
        for listener in &mut self.0 {
            let created = std::mem::take(&mut listener.created);
            let (api, token) = (listener.api.clone(), listener.actor.token.clone());
            running.spawn(delete(api, token, created));
        }
        while let Some(cleaned) = running.join_next().await {
            cleaned??;
        }
        Ok(())
    }

    pub(super) fn record(&self, told: Told, seconds: f64, record: &mut MixRecord) {
        let Some(first) = self.0.first() else {
            return;
        };
        let (latency, slowest) = latency(&told.lags);
        let answers = told.lags.len() as u64;
        record.rows.push(Row {
            mix: record.name.clone(),
            group: record.name.clone(),
            status: 201,
            answers,
            per_second: answers as f64 / seconds,
            latency_ms: milliseconds(&latency),
            upper_bounds: false,
            settings: RowSettings {
                url: first.api.base().to_owned(),
                seconds,
                connections: self.0.len(),
                processes: 1,
                pace: format!("{PER_SECOND}/s"),
                limits: first.limits.to_string(),
            },
        });
        if told.wrong.is_empty() {
            record.facts.push(format!(
                "{answers} tasks beside the load, each told once on one of {} event streams; percentiles are from its 201 to that, the slowest {:.0} ms",
                self.0.len(),
                slowest.as_secs_f64() * 1e3
            ));
        }
        for wrong in told.wrong {
            record.is_wrong(wrong);
        }
    }
}

impl Listener {
    async fn watch(
        &mut self,
        first: Duration,
        beat: Duration,
        most: u64,
        ended: &CancellationToken,
    ) -> Told {
        let mut due = interval_at(tokio::time::Instant::now() + first, beat);
        // A task that is late does not hide the next one.
        due.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut creating = JoinSet::new();
        let mut ledger = Ledger::default();
        let mut begun = 0;
        loop {
            let enough = ended.is_cancelled() || begun == most;
            let over = enough && creating.is_empty();
            let wait = match over {
                true if ledger.is_settled() => SILENCE,
                true | false => PATIENCE,
            };
            tokio::select! {
                _ = due.tick(), if !enough => {
                    begun += 1;
                    creating.spawn(create(self.api.clone(), self.actor.token.clone()));
                }
                Some(created) = creating.join_next() => match created {
                    Ok(Ok((id, at, limits))) => {
                        self.limits = limits;
                        self.created.push(id.clone());
                        ledger.answered(id, at);
                    }
                    Ok(Err(error)) => ledger.wrong.push(format!("{error:#}")),
                    Err(_) => ledger.wrong.push("a request was lost".to_owned()),
                },
                () = ended.cancelled(), if !enough => {}
                heard = timeout(wait, self.stream.next()) => match heard {
                    Ok(Ok(arrival)) => ledger.told(&arrival.notification, arrival.at),
                    Ok(Err(error)) => {
                        ledger.wrong.push(format!("{error:#}"));
                        creating.shutdown().await;
                        break;
                    }
                    Err(_) if over => break,
                    Err(_) => {}
                }
            }
        }
        ledger.close()
    }
}

async fn delete(api: Api, token: Option<String>, tasks: Vec<String>) -> anyhow::Result<()> {
    for id in tasks {
        let ask = Ask {
            method: Method::DELETE,
            path: format!("/api/tasks/{id}"),
            body: None,
        };
        api.must(&ask, token.as_deref(), 204).await?;
    }
    Ok(())
}

/// Creates one task; its id, and when its answer was there.
async fn create(api: Api, token: Option<String>) -> anyhow::Result<(String, Instant, Limits)> {
    let task = json!({"title": "Listen for the kettle", "tags": ["load"]});
    let ask = Ask::json(Method::POST, "/api/tasks", &task);
    let answer = api.call(&ask, token.as_deref()).await?;
    let at = Instant::now();
    anyhow::ensure!(answer.status == 201, "{ask} answered {}", answer.told());
    Ok((id(&answer)?, at, answer.limits))
}

fn id(answer: &Answer) -> anyhow::Result<String> {
    let id = answer.json()["id"].as_str().map(str::to_owned);
    id.with_context(|| format!("no task: {}", answer.told()))
}

/// One listener's tasks and what it was told of them.
#[derive(Default)]
struct Ledger {
    answered: HashMap<String, Instant>,
    /// When, and how often. A notification may be there before the answer has been read.
    told: HashMap<String, (Instant, u32)>,
    wrong: Vec<String>,
}

impl Ledger {
    fn answered(&mut self, id: String, at: Instant) {
        self.answered.insert(id, at);
    }

    /// Other notifications are of what was done before.
    fn told(&mut self, notification: &serde_json::Value, at: Instant) {
        if let ("task.created", Some(id)) = (
            notification["type"].as_str().unwrap_or_default(),
            notification["task_id"].as_str(),
        ) {
            self.told.entry(id.to_owned()).or_insert((at, 0)).1 += 1;
        }
    }

    fn is_settled(&self) -> bool {
        self.answered.keys().all(|id| self.told.contains_key(id))
    }

    fn close(mut self) -> Told {
        let mut lags = Vec::new();
        for (id, answered) in &self.answered {
            match self.told.get(id) {
                Some((told, 1)) => lags.push(told.saturating_duration_since(*answered)),
                Some((_, times)) => self.wrong.push(format!("task {id} was told {times} times")),
                None => self
                    .wrong
                    .push(format!("task {id} was not told within {PATIENCE:?}")),
            }
        }
        Told {
            lags,
            wrong: self.wrong,
        }
    }
}

/// By nearest rank, at the percentiles of oha; and the slowest.
fn latency(lags: &[Duration]) -> (Latency, Duration) {
    let mut sorted = lags.to_vec();
    sorted.sort_unstable();
    let at = |percentile: f64| {
        let rank = (percentile / 100.0 * sorted.len() as f64).ceil() as usize;
        let lag = sorted.get(rank.max(1) - 1)?;
        Some((percentile, lag.as_secs_f64()))
    };
    let percentiles = [10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99];
    let slowest = sorted.last().copied().unwrap_or_default();
    (percentiles.into_iter().filter_map(at).collect(), slowest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn notification(id: &str) -> serde_json::Value {
        json!({"type": "task.created", "task_id": id})
    }

    #[test]
    fn a_lag_is_from_the_answer_to_the_notification_and_never_negative() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        ledger.told(&notification("early"), start);
        ledger.answered("early".to_owned(), start + MS);
        ledger.answered("late".to_owned(), start);
        assert!(!ledger.is_settled());
        ledger.told(&notification("late"), start + 7 * MS);
        assert!(ledger.is_settled());
        let mut told = ledger.close();
        told.lags.sort();
        assert_eq!(told.lags, [Duration::ZERO, 7 * MS]);
        assert!(told.wrong.is_empty());
    }

    #[test]
    fn what_is_told_twice_or_never_is_wrong_and_no_figure() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        for id in ["twice", "never"] {
            ledger.answered(id.to_owned(), start);
        }
        for _ in 0..2 {
            ledger.told(&notification("twice"), start);
        }
        // Of a run before.
        ledger.told(&notification("other"), start);
        ledger.told(&json!({"type": "task.deleted", "task_id": "never"}), start);
        let mut told = ledger.close();
        told.wrong.sort();
        assert!(told.lags.is_empty());
        assert_eq!(
            told.wrong,
            [
                "task never was not told within 30s",
                "task twice was told 2 times"
            ]
        );
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let lags: Vec<_> = (1..=200).rev().map(|ms| ms * MS).collect();
        let (latency, slowest) = latency(&lags);
        let points = latency.points();
        assert_eq!(slowest, 200 * MS);
        assert_eq!(points[2], (50.0, 0.1));
        assert_eq!(points[6], (99.0, 0.198));
        assert_eq!(points[8], (99.99, 0.2));
        let (none, slowest) = super::latency(&[]);
        assert!(none.points().is_empty() && slowest.is_zero());
    }
}
