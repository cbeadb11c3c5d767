//! Compares the history of answers with what every user can read, and prints the result.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::clients::{Api, History, Notice, text};
use crate::faults::{Fault, Injected};
use crate::stack::Stack;

pub(crate) struct Verdict {
    seed: u64,
    took: Duration,
    operations: usize,
    notifications: usize,
    answers: BTreeMap<String, usize>,
    faults: BTreeMap<Fault, Effect>,
    /// From a 201 until its notification could be read, in ascending order.
    lags: Vec<Duration>,
    lost: Vec<Notice>,
    doubled: Vec<Notice>,
    /// Notifications without a change that was answered.
    unexplained: Vec<Notice>,
    misordered: Vec<String>,
    /// Answers, states and counts that are wrong.
    wrong: Vec<String>,
    dead_letters: u64,
}

/// How a kind of fault delayed the notifications that were due meanwhile.
#[derive(Default, Clone, Copy)]
struct Effect {
    times: usize,
    worst_lag: Duration,
    /// From the end of the fault until the last of them could be read.
    recovery: Duration,
}

/// Reads everything that the users of `history` can read, and compares.
pub(crate) async fn reconcile(
    stack: &Stack,
    history: &Arc<History>,
    injected: &[Injected],
    took: Duration,
    seed: u64,
) -> Verdict {
    let entries = std::mem::take(&mut *history.entries());
    let mut api = Api::new(&stack.gateways(), 0, Arc::default());
    let mut verdict = Verdict {
        seed,
        took,
        operations: history.operations(),
        notifications: 0,
        answers: entries.answers,
        faults: effects(injected, &entries.lags),
        lags: entries
            .lags
            .iter()
            .map(|(from, until)| *until - *from)
            .collect(),
        lost: Vec::new(),
        doubled: Vec::new(),
        unexplained: Vec::new(),
        misordered: Vec::new(),
        wrong: entries.wrong,
        dead_letters: stack.dead_letters().await,
    };
    verdict.lags.sort_unstable();
    for mut person in entries.people {
        let notifications = person.user.list(&mut api, "/api/notifications").await;
        verdict.notifications += notifications.len();
        verdict.compare(&person.expected, &notifications);
        let unread = person.user.unread(&mut api).await;
        if unread != notifications.len() {
            let (email, count) = (person.user.email(), notifications.len());
            verdict
                .wrong
                .push(format!("{email}: {unread} unread of {count} notifications"));
        }
        let tasks = person.user.list(&mut api, "/api/tasks").await;
        let version = |task: &Value| (text(task, "id"), task["version"].as_u64().unwrap_or(0));
        // The list of an assignee has tasks of other owners too.
        let own = tasks.iter().filter(|task| person.user.owns(task));
        let found: BTreeMap<_, _> = own.map(version).collect();
        if found != person.tasks {
            let differ = |(task, at): &(&String, &u64)| person.tasks.get(*task) != Some(at);
            let differ = found.iter().find(differ).or_else(|| {
                let mut all = person.tasks.iter();
                all.find(|(task, at)| found.get(*task) != Some(at))
            });
            let email = person.user.email();
            verdict.wrong.push(format!(
                "{email}: the list of tasks differs, first in {differ:?}"
            ));
        }
    }
    verdict
}

fn effects(
    injected: &[Injected],
    lags: &[(std::time::Instant, std::time::Instant)],
) -> BTreeMap<Fault, Effect> {
    let mut effects: BTreeMap<Fault, Effect> = BTreeMap::new();
    for injected in injected {
        let effect = effects.entry(injected.fault).or_default();
        effect.times += 1;
        for (from, until) in lags
            .iter()
            .filter(|(from, until)| *from <= injected.until && *until >= injected.from)
        {
            effect.worst_lag = effect.worst_lag.max(*until - *from);
            effect.recovery = effect
                .recovery
                .max(until.saturating_duration_since(injected.until));
        }
    }
    effects
}

impl Verdict {
    /// Compares a user's complete list, the latest notification first, with what it must have.
    fn compare(&mut self, expected: &[Notice], notifications: &[Value]) {
        let mut missing: BTreeSet<&Notice> = expected.iter().collect();
        let (mut seen, mut last) = (BTreeSet::new(), BTreeMap::new());
        for item in notifications {
            let version = item["task_version"].as_u64().unwrap_or(0);
            let notice: Notice = (text(item, "task_id"), version, text(item, "type"));
            if last
                .insert(notice.0.clone(), version)
                .is_some_and(|later| later < version)
            {
                self.misordered.push(format!("{}:{version}", notice.0));
            }
            if !seen.insert(notice.clone()) {
                self.doubled.push(notice);
            } else if !missing.remove(&notice) {
                self.unexplained.push(notice);
            }
        }
        self.lost.extend(missing.into_iter().cloned());
    }

    pub(crate) fn holds(&self) -> bool {
        let notices = [&self.lost, &self.doubled, &self.unexplained];
        notices.iter().all(|notices| notices.is_empty())
            && self.misordered.is_empty()
            && self.wrong.is_empty()
            && self.dead_letters == 0
            && self.operations > 0
    }

    fn lag(&self, share: f64) -> Duration {
        let last = self.lags.len().saturating_sub(1);
        let at = (last as f64 * share).round() as usize;
        self.lags.get(at).copied().unwrap_or_default()
    }

    pub(crate) fn json(&self) -> String {
        let millis = |time: Duration| time.as_millis() as u64;
        let faults = self.faults.iter().map(|(fault, effect)| {
            json!({
                "fault": fault.name(),
                "times": effect.times,
                "worst_lag_ms": millis(effect.worst_lag),
                "recovery_ms": millis(effect.recovery),
            })
        });
        let result = json!({
            "at": jiff::Timestamp::now().to_string(),
            "seed": self.seed,
            "seconds": self.took.as_secs(),
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "operations": self.operations,
            "notifications": self.notifications,
            "answers": self.answers,
            "faults": faults.collect::<Vec<_>>(),
            "faults_in_all": self.times(),
            "lag_ms": {
                "samples": self.lags.len(),
                "p50": millis(self.lag(0.5)),
                "p99": millis(self.lag(0.99)),
                "max": millis(self.lag(1.0)),
            },
            "lost": self.lost,
            "doubled": self.doubled,
            "unexplained": self.unexplained,
            "misordered": self.misordered,
            "wrong": self.wrong,
            "dead_letters": self.dead_letters,
        });
        serde_json::to_string_pretty(&result).unwrap_or_default() + "\n"
    }

    fn times(&self) -> usize {
        self.faults.values().map(|effect| effect.times).sum()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<54} {:>5} {:>12} {:>12}",
            "fault", "times", "worst lag", "recovery"
        )?;
        for (fault, effect) in &self.faults {
            let (lag, recovery) = (
                effect.worst_lag.as_secs_f64(),
                effect.recovery.as_secs_f64(),
            );
            writeln!(
                f,
                "{:<54} {:>5} {lag:>10.2} s {recovery:>10.2} s",
                fault.name(),
                effect.times
            )?;
        }
        writeln!(
            f,
            "\n{} operations and {} faults in {} s (seed {}); {} notifications",
            self.operations,
            self.times(),
            self.took.as_secs(),
            self.seed,
            self.notifications
        )?;
        let answers = self
            .answers
            .iter()
            .map(|(what, count)| format!("{what}: {count}"));
        writeln!(f, "answers: {}", answers.collect::<Vec<_>>().join(", "))?;
        let millis = |share| self.lag(share).as_secs_f64() * 1e3;
        writeln!(
            f,
            "201 to readable, {} samples: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            self.lags.len(),
            millis(0.5),
            millis(0.99),
            millis(1.0)
        )?;
        writeln!(
            f,
            "lost {}, doubled {}, unexplained {}, misordered {}, wrong {}, dead letters {}",
            self.lost.len(),
            self.doubled.len(),
            self.unexplained.len(),
            self.misordered.len(),
            self.wrong.len(),
            self.dead_letters
        )?;
        for (what, notices) in [
            ("lost", &self.lost),
            ("doubled", &self.doubled),
            ("unexplained", &self.unexplained),
        ] {
            for (task, version, kind) in notices.iter().take(10) {
                writeln!(f, "  {what}: {kind} {task}:{version}")?;
            }
        }
        for what in self.misordered.iter().chain(&self.wrong).take(20) {
            writeln!(f, "  {what}")?;
        }
        Ok(())
    }
}
