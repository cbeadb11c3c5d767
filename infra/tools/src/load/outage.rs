//! `make prove-outage`: creates tasks while RabbitMQ is down. Measures the answers, the backlog of
//! notifications, the memory that the processes use, and how soon the backlog is gone once RabbitMQ is
//! back.

mod memory;
mod outcome;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use contract::time::rfc3339;
use http::Method;
use runtime::time::{Clock, SystemClock};
use serde_json::json;
use tokio::process::Command;
use tokio::time::{MissedTickBehavior, interval};

use self::memory::resident_mib;
use self::outcome::{Drain, Outcome, Phase, Sample};
use super::accounts::Accounts;
use super::api::{Api, Call};
use super::generator::MIN_PACE_SHARE;
use super::oha::{Latency, Oha, Report, Run};
use super::record::milliseconds;
use super::{Settings, WRITER, lock, print_progress, table, tasks, verify};

/// The longest run of one process of oha; then the next one starts. While the backlog drains, runs are
/// shorter, because the part after its end does not belong to the measurement.
const MAX_RUN: Duration = Duration::from_secs(30);
const SHORT_RUN: Duration = Duration::from_secs(5);
const BEFORE: Duration = Duration::from_secs(10);
const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);
/// Each phase fails if it takes longer.
const MAX_PHASE: Duration = Duration::from_secs(60 * 60);
/// A backlog is stuck if no notification arrives for this long.
const STUCK: Duration = Duration::from_secs(5 * 60);
/// How long an access token must be valid: for one run and the count after it.
const TOKEN: Duration = Duration::from_secs(5 * 60);

/// How RabbitMQ is stopped, and how many tasks are created meanwhile.
#[derive(Debug, Clone)]
pub struct Outage {
    /// Shell commands that stop RabbitMQ and start it again.
    pub away: String,
    pub back: String,
    /// RabbitMQ stays down for at least this time, and until this many notifications are pending.
    pub length: Duration,
    pub pending: u64,
    /// Tasks a second, in all phases. `None`: as fast as the answers arrive, and no tasks after the
    /// outage.
    pub rate: Option<f64>,
    /// The processes whose memory is measured: files NAME.pid, read at every sample.
    pub processes: Vec<PathBuf>,
    /// The file for the result, as JSON.
    pub json: PathBuf,
}

/// Runs the outage against a running platform, prints the result and saves it. Fails if an answer was not
/// 201, or if any task did not lead to exactly one notification.
pub async fn run(
    settings: &Settings,
    outage: &Outage,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<()> {
    let api = Api::new(&settings.url)?;
    let oha = Oha::find(settings.oha.clone()).await?;
    let _lock = lock(settings)?;
    let mut accounts = Accounts::open(&api, &settings.folder)?;
    accounts.delete(WRITER).await?;
    let mut experiment = Experiment {
        accounts,
        api: &api,
        oha: Arc::new(oha),
        outage,
        connections: settings.connections,
        created: 0,
        notified: 0,
        samples: Vec::new(),
        memory: BTreeMap::new(),
        wrong: Vec::new(),
        facts: Vec::new(),
        out,
    };
    let outcome = experiment.run().await;
    let deleted = experiment.accounts.delete(WRITER).await;
    let (outcome, ()) = (outcome?, deleted?);
    drop(writeln!(experiment.out, "\n{}", outcome.text()));
    std::fs::write(&outage.json, serde_json::to_vec_pretty(&outcome)?)
        .with_context(|| format!("{} cannot be written", outage.json.display()))?;
    drop(writeln!(experiment.out, "{}", outage.json.display()));
    let created = table::grouped(outcome.created);
    print_progress(
        experiment.out,
        &format!("the user is deleted; the platform goes on deleting its {created} tasks"),
    );
    match outcome.wrong.is_empty() {
        true => Ok(()),
        false => bail!("not everything was right"),
    }
}

struct Experiment<'a> {
    accounts: Accounts<'a>,
    api: &'a Api,
    oha: Arc<Oha>,
    outage: &'a Outage,
    connections: usize,
    created: u64,
    notified: u64,
    samples: Vec<Sample>,
    memory: BTreeMap<String, u64>,
    wrong: Vec<String>,
    facts: Vec<String>,
    out: &'a mut (dyn Write + Send),
}

impl Experiment<'_> {
    async fn run(&mut self) -> anyhow::Result<Outcome> {
        let started_at = rfc3339(SystemClock.now());
        let outage = self.outage;
        self.check_limit().await?;
        let mut phases = Vec::new();

        print_progress(self.out, "before: tasks are created, notifications arrive");
        let mut before = Totals::begin(self);
        before.add(&self.create_tasks(BEFORE).await?);
        phases.push(before.phase("before", self));
        self.catch_up().await?;
        if !self.wrong.is_empty() {
            bail!(
                "something was wrong before the outage: {}",
                self.wrong.join("; ")
            );
        }

        print_progress(self.out, "RabbitMQ is stopped");
        let away = Instant::now();
        command(&outage.away).await?;
        let mut meanwhile = Totals::begin(self);
        let pending = |experiment: &Self| experiment.created.saturating_sub(experiment.notified);
        while away.elapsed() < outage.length || pending(self) < outage.pending {
            let left = outage.length.saturating_sub(away.elapsed());
            let duration = match pending(self) < outage.pending {
                true => MAX_RUN,
                false => left.min(MAX_RUN).max(Duration::from_secs(1)),
            };
            meanwhile.add(&self.create_tasks(duration).await?);
            let pending = pending(self);
            print_progress(self.out, &format!("{pending} notifications are pending"));
            if away.elapsed() > MAX_PHASE {
                bail!(
                    "{} notifications were not pending within {MAX_PHASE:?}",
                    outage.pending
                );
            }
        }
        let notified = self.notified.saturating_sub(meanwhile.notified);
        if notified > 0 {
            let wrong = format!("{notified} notifications arrived although RabbitMQ was stopped");
            self.wrong.push(wrong);
        }
        phases.push(meanwhile.phase("away", self));
        let (away_seconds, backlog) = (away.elapsed().as_secs_f64(), pending(self));

        print_progress(self.out, "RabbitMQ is started again");
        command(&outage.back).await?;
        let mut afterwards = Totals::begin(self);
        let drain = self.drain(&mut afterwards).await?;
        phases.push(afterwards.phase("afterwards", self));
        self.catch_up().await?;

        let created = self.created;
        let token = self.token().await?;
        match tasks::count(self.api, &token, created, 0).await? {
            Ok(fact) => self.facts.push(fact),
            Err(wrong) => self.wrong.push(wrong),
        }
        let seconds = (drain.ended - drain.first).max(1e-3);
        Ok(Outcome {
            started_at,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            oha: self.oha.version.clone(),
            rate: outage.rate,
            away_seconds,
            backlog,
            first_told_seconds: drain.first,
            drained_seconds: drain.ended,
            told: drain.notified,
            told_per_second: drain.notified as f64 / seconds,
            phases,
            memory_mib: std::mem::take(&mut self.memory),
            created,
            wrong: std::mem::take(&mut self.wrong),
            facts: std::mem::take(&mut self.facts),
        })
    }

    /// Waits until the notifications have caught up with the tasks. If there is a rate, tasks are created
    /// all the while.
    async fn drain(&mut self, totals: &mut Totals) -> anyhow::Result<Drain> {
        let rate = self.outage.rate.unwrap_or_default();
        let backlog = Sample {
            at: Instant::now(),
            created: self.created,
            notified: self.notified,
        };
        self.samples.clear();
        let mut last_progress = (Instant::now(), self.notified);
        while backlog.at.elapsed() < MAX_PHASE {
            if self.notified > last_progress.1 {
                last_progress = (Instant::now(), self.notified);
            }
            if last_progress.0.elapsed() > STUCK {
                bail!(
                    "no notification arrived for {STUCK:?}, and {} are pending",
                    self.created.saturating_sub(self.notified)
                );
            }
            if self.outage.rate.is_some() {
                totals.add(&self.create_tasks(SHORT_RUN).await?);
            } else {
                tokio::time::sleep(SAMPLE_INTERVAL).await;
                self.sample(self.created).await?;
            }
            if let Some(drain) = Drain::find(&backlog, &self.samples, rate) {
                return Ok(drain);
            }
        }
        bail!("the backlog was not drained within {MAX_PHASE:?}")
    }

    /// Creates tasks for `duration`, and takes samples meanwhile.
    async fn create_tasks(&mut self, duration: Duration) -> anyhow::Result<Report> {
        let (call, rate) = (task(), self.outage.rate);
        let run = Run {
            method: call.method.clone(),
            url: self.api.url(&call),
            token: Some(self.token().await?),
            body: call.body.clone(),
            connections: self.connections,
            pace: rate,
            duration,
            threads: None,
        };
        let (started, created) = (Instant::now(), self.created);
        let oha = Arc::clone(&self.oha);
        let mut load = std::pin::pin!(async move { oha.run(&run).await });
        let mut ticks = interval(SAMPLE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let report = loop {
            tokio::select! {
                report = &mut load => break report?,
                _ = ticks.tick() => {}
            }
            // At a fixed rate, the number of tasks created so far follows from the time.
            let so_far = started.elapsed().min(duration).as_secs_f64() * rate.unwrap_or_default();
            self.sample(created + so_far as u64).await?;
        };
        self.wrong.extend(verify::unexpected(201, false, &report));
        self.created += report.of(201);
        let sent = report.requests() as f64 / duration.as_secs_f64();
        if let Some(rate) = rate.filter(|rate| sent < MIN_PACE_SHARE * rate) {
            self.facts.push(format!(
                "only {sent:.0} of {rate:.0} tasks a second could be sent, for {duration:?}"
            ));
        }
        Ok(report)
    }

    /// Notes how many notifications have arrived, and how much memory the processes use. `created` is
    /// the number of tasks so far.
    async fn sample(&mut self, created: u64) -> anyhow::Result<()> {
        let token = self.token().await?;
        match tasks::unread(self.api, &token).await {
            Ok(notified) => self.notified = notified,
            Err(error) => self.wrong.push(format!("{error:#}")),
        }
        self.samples.push(Sample {
            at: Instant::now(),
            created,
            notified: self.notified,
        });
        for file in &self.outage.processes {
            if let (Some(name), Some(mib)) = (file.file_stem(), resident_mib(file)) {
                let name = name.to_string_lossy().into_owned();
                let most = self.memory.entry(name).or_default();
                *most = mib.max(*most);
            }
        }
        Ok(())
    }

    /// Waits until every task has led to a notification. Notes those that are missing as wrong.
    async fn catch_up(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        while self.notified < self.created {
            if started.elapsed() > TOKEN {
                let missing = self.created.saturating_sub(self.notified);
                let wrong = format!("{missing} notifications did not arrive within {TOKEN:?}");
                self.wrong.push(wrong);
                break;
            }
            tokio::time::sleep(SAMPLE_INTERVAL).await;
            self.sample(self.created).await?;
        }
        Ok(())
    }

    async fn check_limit(&mut self) -> anyhow::Result<()> {
        let token = self.token().await?;
        let answer = self.api.expect_status(&task(), Some(&token), 201).await?;
        self.created += 1;
        let most = answer.limits.rate().unwrap_or(f64::INFINITY);
        let wanted = self.outage.rate.unwrap_or(5000.0);
        if wanted > 0.8 * most {
            bail!(
                "the limit is too low for this ({}); raise it first: infra/native/load.sh limits says how",
                answer.limits
            );
        }
        Ok(())
    }

    async fn token(&mut self) -> anyhow::Result<String> {
        self.accounts.token(WRITER, TOKEN, &mut |_| ()).await
    }
}

/// The runs of one phase, added up.
struct Totals {
    started: Instant,
    created: u64,
    notified: u64,
    runs: usize,
    latency: Latency,
}

impl Totals {
    fn begin(experiment: &Experiment<'_>) -> Self {
        Self {
            started: Instant::now(),
            created: experiment.created,
            notified: experiment.notified,
            runs: 0,
            latency: Latency::default(),
        }
    }

    fn add(&mut self, report: &Report) {
        self.runs += 1;
        let latency = std::mem::take(&mut self.latency);
        self.latency = latency.upper_bound(report.latency(201));
    }

    fn phase(self, name: &'static str, experiment: &Experiment<'_>) -> Phase {
        let seconds = self.started.elapsed().as_secs_f64();
        let created = experiment.created - self.created;
        Phase {
            name,
            seconds,
            created,
            created_per_second: created as f64 / seconds,
            told: experiment.notified.saturating_sub(self.notified),
            latency_ms: milliseconds(&self.latency),
            upper_bounds: self.runs > 1,
        }
    }
}

fn task() -> Call {
    let task = json!({"title": "Carry water", "priority": "high", "tags": ["load"]});
    Call::json(Method::POST, "/api/tasks", &task)
}

async fn command(text: &str) -> anyhow::Result<()> {
    let status = Command::new("sh").args(["-c", text]).status().await?;
    match status.success() {
        true => Ok(()),
        false => bail!("`{text}` failed ({status})"),
    }
}
