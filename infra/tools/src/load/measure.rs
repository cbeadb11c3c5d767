//! One mix, from its warm-up to its verdict.
//!
//! Before the load one answer of each kind is read whole; beside it more are read and compared with
//! that one; after it a last one. What oha counts is held against all of this in [`super::ledger`].

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::api::{Answer, Api};
use super::lane::{Actor, Lane, Pace};
use super::ledger::{self, MOST_WRONG};
use super::mix::{Group, Mix, Push, Who};
use super::oha::{Latency, Oha, Report, Run};
use super::record::{MixRecord, Row, RowSettings, milliseconds};
use super::told::Listeners;

const WARM_UP: Duration = Duration::from_secs(2);
/// What is half as fast as it could be has to know how fast that is, once the backlogs behind it are in step.
const SATURATION: Duration = Duration::from_secs(10);
/// Between two single calls beside the load: they take tokens too.
const PAUSE: Duration = Duration::from_millis(250);
/// Buckets that fill slower than this are not waited for.
const LONGEST_REFILL: f64 = 30.0;
/// What the warm-up, the refill and the calls around the load take at most: tokens must outlive it.
pub(super) const OVERHEAD: Duration = Duration::from_secs(90);
/// A pace that is not held to this share is told.
pub(super) const HELD: f64 = 0.95;

pub(super) struct Measure<'a> {
    pub(super) api: &'a Api,
    pub(super) oha: Arc<Oha>,
    pub(super) duration: Duration,
    pub(super) connections: usize,
    /// The gateways' admin listeners, where they can be reached.
    pub(super) admins: Vec<String>,
}

pub(super) struct Measured {
    pub(super) record: MixRecord,
    /// Right answers from first to last, those of the warm-up and of single calls included.
    pub(super) right: u64,
}

impl Measure<'_> {
    /// Runs `mix`; `actors` are the groups', in their order, `listeners` wait beside it for what they are told.
    pub(super) async fn run(
        &self,
        mix: &Mix,
        actors: Vec<Vec<Actor>>,
        listeners: Vec<Actor>,
        tell: &mut (dyn FnMut(&str) + Send),
    ) -> anyhow::Result<Measured> {
        let mut lanes = self.lanes(mix, actors).await?;
        let mut listeners = Listeners::open(self.api, listeners).await?;
        let warm_up = match mix.told {
            true => SATURATION,
            false => WARM_UP,
        };
        self.warm_up(&mut lanes, warm_up.min(self.duration)).await?;
        self.refill(&mut lanes).await?;
        let unsettled = listeners.settle().await;
        tell(&format!(
            "measuring for {:?}: {}",
            self.duration,
            describe(mix, &lanes)
        ));

        let failures = self.redis_failures().await;
        let ended = CancellationToken::new();
        let load = async {
            let reports = self.oha(lanes_to_runs(&lanes, self.duration)).await;
            ended.cancel();
            reports
        };
        let beside = self.beside(&lanes, &ended);
        let (reports, calls, mut told) = tokio::join!(load, beside, listeners.watch(&ended));
        let cleaned = listeners.clean().await;
        let reports = reports?;
        let failures = self.redis_failures().await.saturating_sub(failures);
        for (place, answer) in calls {
            lanes[place].judge(answer);
        }
        for (lane, report) in lanes.iter_mut().zip(&reports) {
            lane.right += report.of(lane.group.status);
            let expected = lane.expected(failures > 0);
            let wrong = ledger::audit(&expected, report);
            lane.wrong.extend(wrong);
            let ask = &lane.group.ask;
            let last = self.api.patiently(ask, lane.token(), &mut |_| ()).await;
            lane.judge(last);
        }
        told.wrong.extend(unsettled);
        told.wrong
            .extend(cleaned.err().map(|error| format!("{error:#}")));
        let mut record = self.record(mix, &lanes, &reports, failures);
        listeners.record(told, self.duration.as_secs_f64(), &mut record);
        Ok(Measured {
            right: lanes.iter().map(|lane| lane.right).sum(),
            record,
        })
    }

    async fn lanes<'m>(
        &self,
        mix: &'m Mix,
        actors: Vec<Vec<Actor>>,
    ) -> anyhow::Result<Vec<Lane<'m>>> {
        let processes: usize = actors.iter().map(Vec::len).sum();
        let mut lanes = Vec::new();
        for (group, actors) in mix.groups.iter().zip(actors) {
            // The groups share the connections, and each group's processes its share.
            let connections = self.connections / mix.groups.len() / actors.len();
            for actor in actors {
                let ask = &group.ask;
                let token = actor.token.as_deref();
                let model = self.api.must(ask, token, group.status).await?;
                let run = Run {
                    method: ask.method.clone(),
                    url: self.api.url(ask),
                    token: actor.token.clone(),
                    body: ask.body.clone(),
                    connections: connections.max(1),
                    pace: None,
                    duration: self.duration,
                    threads: (processes > 1).then_some(1),
                };
                lanes.push(Lane {
                    group,
                    actor,
                    run,
                    pace: Pace::Full,
                    latest: model.clone(),
                    model,
                    refusal: None,
                    beside: 0,
                    right: 1,
                    wrong: Vec::new(),
                });
            }
        }
        Ok(lanes)
    }

    /// Fills caches and pools, and finds out how fast the answers come. What is to be driven over
    /// its limit is left out where there is anything else.
    async fn warm_up(&self, lanes: &mut [Lane<'_>], duration: Duration) -> anyhow::Result<()> {
        let only_over = lanes.iter().all(|lane| lane.group.push == Push::Over);
        let mut warm: Vec<_> = lanes
            .iter_mut()
            .filter(|lane| only_over || lane.group.push != Push::Over)
            .collect();
        let runs = warm.iter().map(|lane| lane.run_for(duration)).collect();
        for (lane, report) in warm.iter_mut().zip(self.oha(runs).await?) {
            lane.right += report.of(lane.group.status);
            let wrong = ledger::unexpected(lane.group.status, true, &report);
            let wrong = wrong.map(|wrong| format!("{wrong} while warming up"));
            lane.wrong.extend(wrong);
            let reached = report.requests() as f64 / report.seconds;
            lane.pace = Pace::choose(lane.group.push, lane.latest.limits.rate(), reached);
            lane.run.pace = lane.pace.per_second();
        }
        Ok(())
    }

    /// Waits until the buckets that the warm-up has emptied are full.
    async fn refill(&self, lanes: &mut [Lane<'_>]) -> anyhow::Result<()> {
        let mut wait: f64 = 0.0;
        for lane in lanes.iter_mut() {
            self.look(lane).await?;
            wait = wait.max(lane.latest.limits.full_in());
        }
        if wait > 0.0 {
            sleep(Duration::from_secs_f64(wait.min(LONGEST_REFILL))).await;
            for lane in lanes.iter_mut() {
                self.look(lane).await?;
            }
        }
        Ok(())
    }

    async fn look(&self, lane: &mut Lane<'_>) -> anyhow::Result<()> {
        let ask = &lane.group.ask;
        let answer = self.api.must(ask, lane.token(), lane.group.status).await?;
        lane.right += 1;
        lane.latest = answer;
        Ok(())
    }

    /// All processes at once. The first failure ends the others.
    async fn oha(&self, runs: Vec<Run>) -> anyhow::Result<Vec<Report>> {
        let mut running = JoinSet::new();
        for (place, run) in runs.into_iter().enumerate() {
            let oha = Arc::clone(&self.oha);
            running.spawn(async move { oha.run(&run).await.map(|report| (place, report)) });
        }
        let mut reports = Vec::new();
        while let Some(ended) = running.join_next().await {
            reports.push(ended.context("a run was lost")??);
        }
        reports.sort_by_key(|(place, _)| *place);
        Ok(reports.into_iter().map(|(_, report)| report).collect())
    }

    /// Single calls while the load runs, by turns for each process, until it has `ended`.
    async fn beside(
        &self,
        lanes: &[Lane<'_>],
        ended: &CancellationToken,
    ) -> Vec<(usize, anyhow::Result<Answer>)> {
        let mut ticks = interval(PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut calls = Vec::new();
        // Those over their limit every other time: what a refusal looks like must be known.
        let over = |place: &usize| lanes[*place].group.push == Push::Over;
        let (hot, others): (Vec<_>, Vec<_>) = (0..lanes.len()).partition(over);
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
            let lane = &lanes[place];
            calls.push((place, self.api.call(&lane.group.ask, lane.token()).await));
        }
        calls
    }

    /// How many calls to Redis have failed at the gateways so far, as far as these can be asked.
    async fn redis_failures(&self) -> u64 {
        let mut failures = 0;
        for admin in &self.admins {
            failures += self.api.redis_failures(admin).await.unwrap_or(0);
        }
        failures
    }

    fn record(
        &self,
        mix: &Mix,
        lanes: &[Lane<'_>],
        reports: &[Report],
        failures: u64,
    ) -> MixRecord {
        let mut record = MixRecord::new(&mix.name);
        for lane in lanes {
            let name = &lane.actor.name;
            let wrong = lane.wrong.iter().take(MOST_WRONG);
            record
                .wrong
                .extend(wrong.map(|wrong| format!("{name}: {wrong}")));
            if let Some(more @ 1..) = lane.wrong.len().checked_sub(MOST_WRONG) {
                record.wrong.push(format!("{name}: … and {more} more"));
            }
        }
        record.verified = record.wrong.is_empty();
        for report in reports {
            for (status, count) in &report.statuses {
                *record.statuses.entry(*status).or_default() += count;
            }
            for (error, count) in &report.errors {
                *record.errors.entry(error.clone()).or_default() += count;
            }
        }
        for group in &mix.groups {
            let of_group = |(lane, _): &(&Lane<'_>, &Report)| lane.group.name == group.name;
            let group: Vec<_> = lanes.iter().zip(reports).filter(of_group).collect();
            self.rows(mix, &group, &mut record);
            for (lane, report) in group
                .iter()
                .filter(|(lane, _)| lane.group.push == Push::Over)
            {
                record.facts.push(lane.through(report, failures > 0));
            }
        }
        if failures > 0 {
            record.facts.push(format!(
                "Redis failed the gateways meanwhile ({failures} ×): limits were local then, which may let one burst more through"
            ));
        }
        let beside: u64 = lanes.iter().map(|lane| lane.beside).sum();
        if record.verified {
            record.facts.push(format!(
                "{beside} answers read whole beside the load were right"
            ));
        }
        record
    }

    /// One row for each status that was due, and what is to be told of the group.
    fn rows(&self, mix: &Mix, lanes: &[(&Lane<'_>, &Report)], record: &mut MixRecord) {
        let Some((first, _)) = lanes.first() else {
            return;
        };
        let group = first.group;
        let seconds = lanes.iter().map(|(_, r)| r.seconds).fold(0.0, f64::max);
        let settings = RowSettings {
            url: self.api.base().to_owned(),
            seconds: self.duration.as_secs_f64(),
            connections: lanes.iter().map(|(lane, _)| lane.run.connections).sum(),
            processes: lanes.len(),
            pace: first.pace.words(lanes.len()),
            limits: first.latest.limits.to_string(),
        };
        let over = group.push == Push::Over;
        for status in [Some(group.status), over.then_some(429)]
            .into_iter()
            .flatten()
        {
            let answers = lanes.iter().map(|(_, report)| report.of(status)).sum();
            if answers == 0 {
                continue;
            }
            let slower = |all: Latency, (_, report): &(&Lane<'_>, &Report)| {
                all.at_most(report.latency(status))
            };
            record.rows.push(Row {
                mix: mix.name.clone(),
                group: group.name.clone(),
                status,
                answers,
                per_second: answers as f64 / seconds,
                latency_ms: milliseconds(&lanes.iter().fold(Latency::default(), slower)),
                upper_bounds: lanes.len() > 1,
                settings: settings.clone(),
            });
        }
        let asked: f64 = lanes.iter().map(|(_, r)| r.requests() as f64).sum::<f64>() / seconds;
        let paced: Option<f64> = lanes.iter().map(|(lane, _)| lane.run.pace).sum();
        if let Some(paced) = paced.filter(|paced| asked < HELD * paced) {
            record.facts.push(format!(
                "{}: only {asked:.0} of {paced:.0} requests a second could be made; what was not asked is in no percentile",
                group.name
            ));
        }
    }
}

fn lanes_to_runs(lanes: &[Lane<'_>], duration: Duration) -> Vec<Run> {
    lanes.iter().map(|lane| lane.run_for(duration)).collect()
}

fn describe(mix: &Mix, lanes: &[Lane<'_>]) -> String {
    let of = |group: &Group| {
        let own = || lanes.iter().filter(|lane| lane.group.name == group.name);
        let pace = own().next().map_or(Pace::Full, |lane| lane.pace);
        let connections: usize = own().map(|lane| lane.run.connections).sum();
        let who = match group.who {
            Who::Nobody => "nobody".to_owned(),
            Who::User | Who::Writer | Who::Hot => "one user".to_owned(),
            Who::Everybody => format!("{} users", own().count()),
        };
        format!(
            "{} as {who}, {}, {connections} connections",
            group.ask,
            pace.words(own().count())
        )
    };
    let groups: Vec<_> = mix.groups.iter().map(of).collect();
    groups.join("; ")
}
