//! `make prove-outage`: tasks are created while RabbitMQ is away. What they are answered, what piles up,
//! what that takes in memory, and how soon all of it is told once RabbitMQ is back.

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
use self::outcome::{Drain, Outcome, Phase, Seen};
use super::accounts::Accounts;
use super::api::{Api, Ask};
use super::measure::HELD;
use super::oha::{Latency, Oha, Report, Run};
use super::record::milliseconds;
use super::{Settings, WRITER, ledger, lock, progress, table, tasks};

/// One process of oha runs for so long at most; then the next one does. Shorter while the backlog drains:
/// what comes after that is no part of it.
const PIECE: Duration = Duration::from_secs(30);
const SHORT_PIECE: Duration = Duration::from_secs(5);
const BEFORE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Above this nobody waits for the end: it is a failure.
const LONGEST: Duration = Duration::from_secs(60 * 60);
/// A backlog of which nothing was told for so long is stuck.
const STUCK: Duration = Duration::from_secs(5 * 60);
/// An access token outlives one piece and its count.
const TOKEN: Duration = Duration::from_secs(5 * 60);

/// What happens to RabbitMQ, and how much is created meanwhile.
#[derive(Debug, Clone)]
pub struct Outage {
    /// Shell commands that take RabbitMQ away and bring it back.
    pub away: String,
    pub back: String,
    /// At least so long, and until so many tasks wait to be told.
    pub length: Duration,
    pub pending: u64,
    /// Tasks a second, before, meanwhile and afterwards. `None`: as fast as answers come, and none afterwards.
    pub rate: Option<f64>,
    /// Whose memory is measured: files NAME.pid, read at every look.
    pub processes: Vec<PathBuf>,
    /// Where the result is written, as JSON.
    pub json: PathBuf,
}

/// Runs the outage against a running platform and shows and keeps the result. An error when an answer was not 201,
/// or when not every task was told once.
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
    let mut story = Story {
        accounts,
        api: &api,
        oha: Arc::new(oha),
        outage,
        connections: settings.connections,
        created: 0,
        told: 0,
        seen: Vec::new(),
        memory: BTreeMap::new(),
        wrong: Vec::new(),
        facts: Vec::new(),
        out,
    };
    let outcome = story.tell().await;
    let deleted = story.accounts.delete(WRITER).await;
    let (outcome, ()) = (outcome?, deleted?);
    drop(writeln!(story.out, "\n{}", outcome.text()));
    std::fs::write(&outage.json, serde_json::to_vec_pretty(&outcome)?)
        .with_context(|| format!("{} cannot be written", outage.json.display()))?;
    drop(writeln!(story.out, "{}", outage.json.display()));
    let created = table::grouped(outcome.created);
    progress(
        story.out,
        &format!("the user is deleted; the platform goes on deleting its {created} tasks"),
    );
    match outcome.wrong.is_empty() {
        true => Ok(()),
        false => bail!("not everything was right"),
    }
}

struct Story<'a> {
    accounts: Accounts<'a>,
    api: &'a Api,
    oha: Arc<Oha>,
    outage: &'a Outage,
    connections: usize,
    created: u64,
    told: u64,
    seen: Vec<Seen>,
    memory: BTreeMap<String, u64>,
    wrong: Vec<String>,
    facts: Vec<String>,
    out: &'a mut (dyn Write + Send),
}

impl Story<'_> {
    async fn tell(&mut self) -> anyhow::Result<Outcome> {
        let started_at = rfc3339(SystemClock.now());
        let outage = self.outage;
        self.may_be_so_fast().await?;
        let mut phases = Vec::new();

        progress(self.out, "before: tasks are created and told");
        let mut before = Sum::begin(self);
        before.add(&self.piece(BEFORE).await?);
        phases.push(before.phase("before", self));
        self.in_step().await?;
        if !self.wrong.is_empty() {
            bail!("not everything was told before: {}", self.wrong.join("; "));
        }

        progress(self.out, "RabbitMQ is taken away");
        let away = Instant::now();
        command(&outage.away).await?;
        let mut meanwhile = Sum::begin(self);
        let waiting = |story: &Self| story.created.saturating_sub(story.told);
        while away.elapsed() < outage.length || waiting(self) < outage.pending {
            let left = outage.length.saturating_sub(away.elapsed());
            let piece = match waiting(self) < outage.pending {
                true => PIECE,
                false => left.min(PIECE).max(Duration::from_secs(1)),
            };
            meanwhile.add(&self.piece(piece).await?);
            let waiting = waiting(self);
            progress(self.out, &format!("{waiting} tasks wait to be told"));
            if away.elapsed() > LONGEST {
                bail!(
                    "{} tasks would not pile up within {LONGEST:?}",
                    outage.pending
                );
            }
        }
        let told = self.told.saturating_sub(meanwhile.told);
        if told > 0 {
            let wrong = format!("{told} tasks were told while RabbitMQ was to be away");
            self.wrong.push(wrong);
        }
        phases.push(meanwhile.phase("away", self));
        let (away_seconds, backlog) = (away.elapsed().as_secs_f64(), waiting(self));

        progress(self.out, "RabbitMQ is called back");
        command(&outage.back).await?;
        let mut afterwards = Sum::begin(self);
        let drain = self.drain(&mut afterwards).await?;
        phases.push(afterwards.phase("afterwards", self));
        self.in_step().await?;

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
            told: drain.told,
            told_per_second: drain.told as f64 / seconds,
            phases,
            memory_mib: std::mem::take(&mut self.memory),
            created,
            wrong: std::mem::take(&mut self.wrong),
            facts: std::mem::take(&mut self.facts),
        })
    }

    /// Until what is told is in step with what is created, which goes on if there is a rate.
    async fn drain(&mut self, sum: &mut Sum) -> anyhow::Result<Drain> {
        let rate = self.outage.rate.unwrap_or_default();
        let backlog = Seen {
            at: Instant::now(),
            created: self.created,
            told: self.told,
        };
        self.seen.clear();
        let mut moved = (Instant::now(), self.told);
        while backlog.at.elapsed() < LONGEST {
            if self.told > moved.1 {
                moved = (Instant::now(), self.told);
            }
            if moved.0.elapsed() > STUCK {
                bail!(
                    "nothing was told for {STUCK:?}, and {} tasks wait",
                    self.created.saturating_sub(self.told)
                );
            }
            if self.outage.rate.is_some() {
                sum.add(&self.piece(SHORT_PIECE).await?);
            } else {
                tokio::time::sleep(LOOK_EVERY).await;
                self.look(self.created).await?;
            }
            if let Some(drain) = Drain::find(&backlog, &self.seen, rate) {
                return Ok(drain);
            }
        }
        bail!("the backlog was not drained within {LONGEST:?}")
    }

    /// Creates tasks for so long, and looks at what is told meanwhile.
    async fn piece(&mut self, duration: Duration) -> anyhow::Result<Report> {
        let (ask, rate) = (task(), self.outage.rate);
        let run = Run {
            method: ask.method.clone(),
            url: self.api.url(&ask),
            token: Some(self.token().await?),
            body: ask.body.clone(),
            connections: self.connections,
            pace: rate,
            duration,
            threads: None,
        };
        let (begun, created) = (Instant::now(), self.created);
        let oha = Arc::clone(&self.oha);
        let mut making = std::pin::pin!(async move { oha.run(&run).await });
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let report = loop {
            tokio::select! {
                report = &mut making => break report?,
                _ = looks.tick() => {}
            }
            // At a pace, what has been asked for so far is known well enough.
            let so_far = begun.elapsed().min(duration).as_secs_f64() * rate.unwrap_or_default();
            self.look(created + so_far as u64).await?;
        };
        self.wrong.extend(ledger::unexpected(201, false, &report));
        self.created += report.of(201);
        let asked = report.requests() as f64 / duration.as_secs_f64();
        if let Some(rate) = rate.filter(|rate| asked < HELD * rate) {
            self.facts.push(format!(
                "only {asked:.0} of {rate:.0} tasks a second could be asked for, in {duration:?}"
            ));
        }
        Ok(report)
    }

    /// What is told by now, and what memory is used.
    async fn look(&mut self, created: u64) -> anyhow::Result<()> {
        let token = self.token().await?;
        match tasks::unread(self.api, &token).await {
            Ok(told) => self.told = told,
            Err(error) => self.wrong.push(format!("{error:#}")),
        }
        self.seen.push(Seen {
            at: Instant::now(),
            created,
            told: self.told,
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

    /// Waits until all that was created is told. What is not is wrong.
    async fn in_step(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while self.told < self.created {
            if begun.elapsed() > TOKEN {
                let missing = self.created.saturating_sub(self.told);
                let wrong = format!("{missing} tasks were not told within {TOKEN:?}");
                self.wrong.push(wrong);
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
            self.look(self.created).await?;
        }
        Ok(())
    }

    async fn may_be_so_fast(&mut self) -> anyhow::Result<()> {
        let token = self.token().await?;
        let answer = self.api.must(&task(), Some(&token), 201).await?;
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

/// Pieces added up.
struct Sum {
    begun: Instant,
    created: u64,
    told: u64,
    pieces: usize,
    latency: Latency,
}

impl Sum {
    fn begin(story: &Story<'_>) -> Self {
        Self {
            begun: Instant::now(),
            created: story.created,
            told: story.told,
            pieces: 0,
            latency: Latency::default(),
        }
    }

    fn add(&mut self, report: &Report) {
        self.pieces += 1;
        let latency = std::mem::take(&mut self.latency);
        self.latency = latency.at_most(report.latency(201));
    }

    fn phase(self, name: &'static str, story: &Story<'_>) -> Phase {
        let seconds = self.begun.elapsed().as_secs_f64();
        let created = story.created - self.created;
        Phase {
            name,
            seconds,
            created,
            created_per_second: created as f64 / seconds,
            told: story.told.saturating_sub(self.told),
            latency_ms: milliseconds(&self.latency),
            upper_bounds: self.pieces > 1,
        }
    }
}

fn task() -> Ask {
    let task = json!({"title": "Carry water", "priority": "high", "tags": ["load"]});
    Ask::json(Method::POST, "/api/tasks", &task)
}

async fn command(text: &str) -> anyhow::Result<()> {
    let status = Command::new("sh").args(["-c", text]).status().await?;
    match status.success() {
        true => Ok(()),
        false => bail!("`{text}` failed ({status})"),
    }
}
