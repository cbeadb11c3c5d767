//! How long after its 201 the notification of a task arrives. During the load, listeners with open
//! event streams create tasks at a fixed interval and note when the notifications arrive.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use http::Method;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;

use super::api::{Answer, Api, Call};
use super::generator::Actor;
use super::limits::Limits;
use super::oha::Latency;
use super::record::{MixRecord, Row, RowSettings, milliseconds};
use super::verify::MAX_COMPLAINTS;
use crate::stream::Stream;

/// Tasks a second of all listeners together: little compared with the load, and enough for a p99 after
/// five seconds.
const PER_SECOND: u32 = 24;
/// After this time, a notification counts as lost.
const MAX_LAG: Duration = Duration::from_secs(30);
/// How long the streams must stay silent after the last notification: a duplicate would follow
/// closely.
const QUIET_TIME: Duration = Duration::from_secs(1);

/// Users who create tasks and listen for the notifications.
pub(super) struct Listeners(Vec<Listener>);

struct Listener {
    api: Api,
    actor: Actor,
    stream: Stream,
    /// The ids of the tasks it has created, to be deleted afterwards.
    created: Vec<String>,
    limits: Limits,
}

/// The notifications of one or several listeners.
#[derive(Default)]
pub(super) struct Deliveries {
    /// For each task, from the end of its 201 to the notification.
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

    /// Creates one task for each listener and waits for its notification: the streams work, and no
    /// backlog of earlier tasks delays the measurement. Returns what was wrong.
    pub(super) async fn settle(&mut self) -> Vec<String> {
        self.create(1, &CancellationToken::new()).await.wrong
    }

    /// Creates tasks until `ended`, and waits for all notifications.
    pub(super) async fn watch(&mut self, ended: &CancellationToken) -> Deliveries {
        self.create(u64::MAX, ended).await
    }

    /// Creates at most `most` tasks for each listener.
    async fn create(&mut self, most: u64, ended: &CancellationToken) -> Deliveries {
        let interval = Duration::from_secs(1) * self.0.len() as u32 / PER_SECOND;
        let count = self.0.len() as u32;
        let mut running = JoinSet::new();
        for (place, mut listener) in (0_u32..).zip(self.0.drain(..)) {
            let (first, ended) = (interval * place / count, ended.clone());
            running.spawn(async move {
                let deliveries = listener.watch(first, interval, most, &ended).await;
                (listener, deliveries)
            });
        }
        let mut all = Deliveries::default();
        while let Some(watched) = running.join_next().await {
            let Ok((listener, deliveries)) = watched else {
                all.wrong.push("a listener panicked".to_owned());
                continue;
            };
            all.lags.extend(deliveries.lags);
            let name = &listener.actor.name;
            let wrong = deliveries.wrong.iter();
            let wrong = wrong.map(|wrong| format!("{name}: {wrong}"));
            all.wrong.extend(wrong.take(MAX_COMPLAINTS));
            self.0.push(listener);
        }
        all
    }

    /// Deletes the tasks that the listeners have created.
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

    pub(super) fn record(&self, deliveries: Deliveries, seconds: f64, record: &mut MixRecord) {
        let Some(first) = self.0.first() else {
            return;
        };
        let (latency, slowest) = latency(&deliveries.lags);
        let answers = deliveries.lags.len() as u64;
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
        if deliveries.wrong.is_empty() {
            record.facts.push(format!(
                "{answers} tasks beside the load, each with one notification on one of {} event streams; percentiles are from the 201 to the notification, the slowest {:.0} ms",
                self.0.len(),
                slowest.as_secs_f64() * 1e3
            ));
        }
        for wrong in deliveries.wrong {
            record.add_wrong(wrong);
        }
    }
}

impl Listener {
    async fn watch(
        &mut self,
        first: Duration,
        interval: Duration,
        most: u64,
        ended: &CancellationToken,
    ) -> Deliveries {
        let mut due = interval_at(tokio::time::Instant::now() + first, interval);
        // A task that is late does not delay the next one.
        due.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut creating = JoinSet::new();
        let mut tracker = Tracker::default();
        let mut started = 0;
        loop {
            let enough = ended.is_cancelled() || started == most;
            let over = enough && creating.is_empty();
            let wait = match over {
                true if tracker.is_complete() => QUIET_TIME,
                true | false => MAX_LAG,
            };
            tokio::select! {
                _ = due.tick(), if !enough => {
                    started += 1;
                    creating.spawn(create(self.api.clone(), self.actor.token.clone()));
                }
                Some(created) = creating.join_next() => match created {
                    Ok(Ok((id, at, limits))) => {
                        self.limits = limits;
                        self.created.push(id.clone());
                        tracker.answered(id, at);
                    }
                    Ok(Err(error)) => tracker.wrong.push(format!("{error:#}")),
                    Err(_) => tracker.wrong.push("a request panicked".to_owned()),
                },
                () = ended.cancelled(), if !enough => {}
                arrived = timeout(wait, self.stream.next()) => match arrived {
                    Ok(Ok(arrival)) => tracker.notified(&arrival.notification, arrival.at),
                    Ok(Err(error)) => {
                        tracker.wrong.push(format!("{error:#}"));
                        creating.shutdown().await;
                        break;
                    }
                    Err(_) if over => break,
                    Err(_) => {}
                }
            }
        }
        tracker.close()
    }
}

async fn delete(api: Api, token: Option<String>, tasks: Vec<String>) -> anyhow::Result<()> {
    for id in tasks {
        let call = Call {
            method: Method::DELETE,
            path: format!("/api/tasks/{id}"),
            body: None,
        };
        api.expect_status(&call, token.as_deref(), 204).await?;
    }
    Ok(())
}

/// Creates one task. Returns its id, when its answer arrived, and the limits that the answer names.
async fn create(api: Api, token: Option<String>) -> anyhow::Result<(String, Instant, Limits)> {
    let task = json!({"title": "Listen for the kettle", "tags": ["load"]});
    let call = Call::json(Method::POST, "/api/tasks", &task);
    let answer = api.call(&call, token.as_deref()).await?;
    let at = Instant::now();
    anyhow::ensure!(answer.status == 201, "{call} answered {}", answer.summary());
    Ok((id(&answer)?, at, answer.limits))
}

fn id(answer: &Answer) -> anyhow::Result<String> {
    let id = answer.json()["id"].as_str().map(str::to_owned);
    id.with_context(|| format!("no task: {}", answer.summary()))
}

/// The tasks of one listener, and the notifications of them.
#[derive(Default)]
struct Tracker {
    answered: HashMap<String, Instant>,
    /// By task: when the first notification arrived, and how many did. A notification may arrive before
    /// the answer has been read.
    notified: HashMap<String, (Instant, u32)>,
    wrong: Vec<String>,
}

impl Tracker {
    fn answered(&mut self, id: String, at: Instant) {
        self.answered.insert(id, at);
    }

    /// Counts a notification of a created task. Notifications of other kinds belong to earlier requests.
    fn notified(&mut self, notification: &serde_json::Value, at: Instant) {
        if let ("task.created", Some(id)) = (
            notification["type"].as_str().unwrap_or_default(),
            notification["task_id"].as_str(),
        ) {
            self.notified.entry(id.to_owned()).or_insert((at, 0)).1 += 1;
        }
    }

    fn is_complete(&self) -> bool {
        self.answered
            .keys()
            .all(|id| self.notified.contains_key(id))
    }

    fn close(mut self) -> Deliveries {
        let mut lags = Vec::new();
        for (id, answered) in &self.answered {
            match self.notified.get(id) {
                Some((at, 1)) => lags.push(at.saturating_duration_since(*answered)),
                Some((_, times)) => self
                    .wrong
                    .push(format!("task {id} was reported {times} times")),
                None => self
                    .wrong
                    .push(format!("task {id} was not reported within {MAX_LAG:?}")),
            }
        }
        Deliveries {
            lags,
            wrong: self.wrong,
        }
    }
}

/// The lags at the percentiles that oha reports, by nearest rank, and the largest lag.
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
        let (mut tracker, start) = (Tracker::default(), Instant::now());
        tracker.notified(&notification("early"), start);
        tracker.answered("early".to_owned(), start + MS);
        tracker.answered("late".to_owned(), start);
        assert!(!tracker.is_complete());
        tracker.notified(&notification("late"), start + 7 * MS);
        assert!(tracker.is_complete());
        let mut deliveries = tracker.close();
        deliveries.lags.sort();
        assert_eq!(deliveries.lags, [Duration::ZERO, 7 * MS]);
        assert!(deliveries.wrong.is_empty());
    }

    #[test]
    fn what_is_told_twice_or_never_is_wrong_and_no_figure() {
        let (mut tracker, start) = (Tracker::default(), Instant::now());
        for id in ["twice", "never"] {
            tracker.answered(id.to_owned(), start);
        }
        for _ in 0..2 {
            tracker.notified(&notification("twice"), start);
        }
        // From an earlier run.
        tracker.notified(&notification("other"), start);
        tracker.notified(&json!({"type": "task.deleted", "task_id": "never"}), start);
        let mut deliveries = tracker.close();
        deliveries.wrong.sort();
        assert!(deliveries.lags.is_empty());
        assert_eq!(
            deliveries.wrong,
            [
                "task never was not reported within 30s",
                "task twice was reported 2 times"
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
