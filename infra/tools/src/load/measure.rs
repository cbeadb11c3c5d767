//! One mix, from its warm-up to its verdict.
//!
//! Before the load, one answer to each request is read completely. During the load, single calls
//! (probes) read more of them, and after it a last one, and all are compared with the first.
//! [`super::verify`] checks oha's counts against these answers.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::api::{Answer, Api};
use super::delivery::Listeners;
use super::generator::{Actor, Generator, Pace};
use super::mix::{Group, Mix, Push, Who};
use super::oha::{Oha, Report, Run};
use super::record::MixRecord;
use super::summary::Summary;
use super::verify;

const WARM_UP: Duration = Duration::from_secs(2);
/// A mix with listeners runs at half speed, so its warm-up must last until the backlogs behind the API
/// no longer grow: only then it shows the full speed.
const LONG_WARM_UP: Duration = Duration::from_secs(10);
/// Between two probes. They take tokens too, so they are rare.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);
/// At most so many seconds are waited for buckets to fill.
const LONGEST_REFILL: f64 = 30.0;
/// The most that the warm-up, the refill and the calls around the load take. Access tokens must be
/// valid for longer.
pub(super) const OVERHEAD: Duration = Duration::from_secs(90);

pub(super) struct Measure<'a> {
    pub(super) api: &'a Api,
    pub(super) oha: Arc<Oha>,
    pub(super) duration: Duration,
    pub(super) connections: usize,
    /// The gateways' admin listeners, as far as they are known.
    pub(super) admins: Vec<String>,
}

pub(super) struct Measured {
    pub(super) record: MixRecord,
    /// All correct answers, those of the warm-up and of single calls included.
    pub(super) correct: u64,
}

impl Measure<'_> {
    /// Runs `mix`. `actors` holds the users of each group, in the order of the groups; `listeners`
    /// create tasks and wait for the notifications during the load.
    pub(super) async fn run(
        &self,
        mix: &Mix,
        actors: Vec<Vec<Actor>>,
        listeners: Vec<Actor>,
        progress: &mut (dyn FnMut(&str) + Send),
    ) -> anyhow::Result<Measured> {
        let mut generators = self.prepare(mix, actors).await?;
        let mut listeners = Listeners::open(self.api, listeners).await?;
        let warm_up = match mix.has_listeners {
            true => LONG_WARM_UP,
            false => WARM_UP,
        };
        self.warm_up(&mut generators, warm_up.min(self.duration))
            .await?;
        self.refill(&mut generators).await?;
        let unsettled = listeners.settle().await;
        progress(&format!(
            "measuring for {:?}: {}",
            self.duration,
            describe(mix, &generators)
        ));

        let failures = self.redis_failures().await;
        let ended = CancellationToken::new();
        let load = async {
            let reports = self.oha(runs_of(&generators, self.duration)).await;
            ended.cancel();
            reports
        };
        let probing = self.probe(&generators, &ended);
        let (reports, probes, mut deliveries) =
            tokio::join!(load, probing, listeners.watch(&ended));
        let cleaned = listeners.clean().await;
        let reports = reports?;
        let failures = self.redis_failures().await.saturating_sub(failures);
        for (place, answer) in probes {
            generators[place].check(answer);
        }
        for (generator, report) in generators.iter_mut().zip(&reports) {
            generator.correct += report.of(generator.group.status);
            let expected = generator.expected(failures > 0);
            let wrong = verify::audit(&expected, report);
            generator.wrong.extend(wrong);
            let call = &generator.group.call;
            let last = self
                .api
                .call_with_retry(call, generator.token(), &mut |_| ())
                .await;
            generator.check(last);
        }
        deliveries.wrong.extend(unsettled);
        deliveries
            .wrong
            .extend(cleaned.err().map(|error| format!("{error:#}")));
        let summary = Summary {
            mix,
            generators: &generators,
            reports: &reports,
            redis_failures: failures,
            url: self.api.base(),
            duration: self.duration,
        };
        let mut record = summary.record();
        listeners.record(deliveries, self.duration.as_secs_f64(), &mut record);
        Ok(Measured {
            correct: generators.iter().map(|generator| generator.correct).sum(),
            record,
        })
    }

    /// One generator for each actor, each with a reference answer.
    async fn prepare<'m>(
        &self,
        mix: &'m Mix,
        actors: Vec<Vec<Actor>>,
    ) -> anyhow::Result<Vec<Generator<'m>>> {
        let count: usize = actors.iter().map(Vec::len).sum();
        let mut generators = Vec::new();
        for (group, actors) in mix.groups.iter().zip(actors) {
            // The connections are divided equally among the groups, and within a group among its processes.
            let connections = self.connections / mix.groups.len() / actors.len();
            for actor in actors {
                let call = &group.call;
                let token = actor.token.as_deref();
                let reference = self.api.expect_status(call, token, group.status).await?;
                let run = Run {
                    method: call.method.clone(),
                    url: self.api.url(call),
                    token: actor.token.clone(),
                    body: call.body.clone(),
                    connections: connections.max(1),
                    pace: None,
                    duration: self.duration,
                    threads: (count > 1).then_some(1),
                };
                generators.push(Generator {
                    group,
                    actor,
                    run,
                    pace: Pace::Full,
                    latest: reference.clone(),
                    reference,
                    refusal_length: None,
                    probes: 0,
                    correct: 1,
                    wrong: Vec::new(),
                });
            }
        }
        Ok(generators)
    }

    /// Fills caches and connection pools, and measures how fast the platform answers. Groups that go
    /// over their limit take part only if the mix has no others.
    async fn warm_up(
        &self,
        generators: &mut [Generator<'_>],
        duration: Duration,
    ) -> anyhow::Result<()> {
        let all_over = generators
            .iter()
            .all(|generator| generator.group.push == Push::Over);
        let mut warm: Vec<_> = generators
            .iter_mut()
            .filter(|generator| all_over || generator.group.push != Push::Over)
            .collect();
        let runs = warm
            .iter()
            .map(|generator| generator.run_for(duration))
            .collect();
        for (generator, report) in warm.iter_mut().zip(self.oha(runs).await?) {
            generator.correct += report.of(generator.group.status);
            let wrong = verify::unexpected(generator.group.status, true, &report);
            let wrong = wrong.map(|wrong| format!("{wrong} while warming up"));
            generator.wrong.extend(wrong);
            let reached = report.requests() as f64 / report.seconds;
            generator.pace = Pace::choose(
                generator.group.push,
                generator.latest.limits.rate(),
                reached,
            );
            generator.run.pace = generator.pace.per_second();
        }
        Ok(())
    }

    /// Waits until the buckets that the warm-up emptied are full again.
    async fn refill(&self, generators: &mut [Generator<'_>]) -> anyhow::Result<()> {
        let mut wait: f64 = 0.0;
        for generator in generators.iter_mut() {
            self.refresh_latest(generator).await?;
            wait = wait.max(generator.latest.limits.full_in());
        }
        if wait > 0.0 {
            sleep(Duration::from_secs_f64(wait.min(LONGEST_REFILL))).await;
            for generator in generators.iter_mut() {
                self.refresh_latest(generator).await?;
            }
        }
        Ok(())
    }

    async fn refresh_latest(&self, generator: &mut Generator<'_>) -> anyhow::Result<()> {
        let call = &generator.group.call;
        let answer = self
            .api
            .expect_status(call, generator.token(), generator.group.status)
            .await?;
        generator.correct += 1;
        generator.latest = answer;
        Ok(())
    }

    /// Runs all processes at the same time. The first failure ends the others.
    async fn oha(&self, runs: Vec<Run>) -> anyhow::Result<Vec<Report>> {
        let mut running = JoinSet::new();
        for (place, run) in runs.into_iter().enumerate() {
            let oha = Arc::clone(&self.oha);
            running.spawn(async move { oha.run(&run).await.map(|report| (place, report)) });
        }
        let mut reports = Vec::new();
        while let Some(ended) = running.join_next().await {
            reports.push(ended.context("a run of oha panicked")??);
        }
        reports.sort_by_key(|(place, _)| *place);
        Ok(reports.into_iter().map(|(_, report)| report).collect())
    }

    /// Sends single calls until the load has `ended`, in turn as each of the generators.
    async fn probe(
        &self,
        generators: &[Generator<'_>],
        ended: &CancellationToken,
    ) -> Vec<(usize, anyhow::Result<Answer>)> {
        let mut ticks = interval(PROBE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut probes = Vec::new();
        // Every other probe is one over the limit, because a refusal must be read completely too.
        let over = |place: &usize| generators[*place].group.push == Push::Over;
        let (hot, others): (Vec<_>, Vec<_>) = (0..generators.len()).partition(over);
        for turn in 0.. {
            tokio::select! {
                () = ended.cancelled() => break,
                _ = ticks.tick() => {}
            }
            let from = match (turn % 2 == 0, hot.is_empty(), others.is_empty()) {
                (_, true, _) | (false, _, false) => &others,
                (true, false, _) | (false, false, true) => &hot,
            };
            let place = from[turn / 2 % from.len()];
            let generator = &generators[place];
            probes.push((
                place,
                self.api
                    .call(&generator.group.call, generator.token())
                    .await,
            ));
        }
        probes
    }

    /// How many calls to Redis have failed so far at the gateways whose metrics can be read.
    async fn redis_failures(&self) -> u64 {
        let mut failures = 0;
        for admin in &self.admins {
            failures += self.api.redis_failures(admin).await.unwrap_or(0);
        }
        failures
    }
}

fn runs_of(generators: &[Generator<'_>], duration: Duration) -> Vec<Run> {
    generators
        .iter()
        .map(|generator| generator.run_for(duration))
        .collect()
}

fn describe(mix: &Mix, generators: &[Generator<'_>]) -> String {
    let of = |group: &Group| {
        let own = || {
            generators
                .iter()
                .filter(|generator| generator.group.name == group.name)
        };
        let pace = own().next().map_or(Pace::Full, |generator| generator.pace);
        let connections: usize = own().map(|generator| generator.run.connections).sum();
        let who = match group.who {
            Who::Nobody => "nobody".to_owned(),
            Who::User | Who::Writer | Who::Hot => "one user".to_owned(),
            Who::Everybody => format!("{} users", own().count()),
        };
        format!(
            "{} as {who}, {}, {connections} connections",
            group.call,
            pace.describe(own().count())
        )
    };
    let groups: Vec<_> = mix.groups.iter().map(of).collect();
    groups.join("; ")
}
