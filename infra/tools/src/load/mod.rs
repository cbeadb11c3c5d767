//! `make load`: how fast the platform answers, and whether each answer was right.
//!
//! oha generates the load, with one process for each user of a mix. This module decides who sends
//! which request at what rate, reads oha's counts, and checks them against the limits, the lengths
//! of the bodies, complete answers and the platform's own counts. A figure that could not be verified
//! is marked as such.

mod accounts;
mod api;
mod delivery;
mod generator;
mod limits;
mod measure;
mod mix;
mod oha;
pub mod outage;
mod plot;
mod record;
mod summary;
mod table;
mod tasks;
mod verify;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use contract::time::rfc3339;
use runtime::time::{Clock, SystemClock};

use self::accounts::Accounts;
use self::api::Api;
use self::generator::Actor;
use self::measure::{Measure, Measured, OVERHEAD};
use self::mix::{Mix, Who};
use self::oha::Oha;
use self::record::{MixRecord, Record, Row};
use self::tasks::{MAX_WAIT, SharedTask};

const MIN_DURATION: Duration = Duration::from_secs(1);
/// An access token lives for ten minutes.
const MAX_DURATION: Duration = Duration::from_secs(8 * 60);
const MAX_USERS: usize = 64;
const WRITER: &str = "writer";
const HOT: &str = "hot";

/// What to measure.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `http://HOST:PORT`.
    pub url: String,
    /// How long each mix is measured, without its warm-up.
    pub duration: Duration,
    /// Connections of each mix, over all its processes.
    pub connections: usize,
    /// How many users the mixes with several users have.
    pub users: usize,
    /// The mixes to run; all of them when empty.
    pub mixes: Vec<String>,
    /// A custom mix from a JSON file. It replaces the shipped mixes, except those that `mixes` names.
    pub scenario: Option<PathBuf>,
    pub oha: PathBuf,
    /// The gateways' admin listeners, `http://HOST:PORT` or `container:NAME`. Their metrics show
    /// whether Redis was reachable all the time.
    pub admins: Vec<String>,
    /// Where results and accounts are stored.
    pub folder: PathBuf,
}

/// Measures all mixes, prints the results and saves them. Fails when any answer was wrong.
pub async fn run(settings: &Settings, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    check(settings)?;
    let mixes = mixes(settings)?;
    let api = Api::new(&settings.url)?;
    let oha = Arc::new(Oha::find(settings.oha.clone()).await?);
    let _lock = lock(settings)?;
    let mut load = Load {
        accounts: Accounts::open(&api, &settings.folder)?,
        measure: Measure {
            api: &api,
            oha: Arc::clone(&oha),
            duration: settings.duration,
            connections: settings.connections,
            admins: settings.admins.clone(),
        },
        users: settings.users,
        out,
    };
    let mut record = Record {
        started_at: rfc3339(SystemClock.now()),
        url: api.base().to_owned(),
        oha: oha.version.clone(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        verified: true,
        mixes: Vec::new(),
    };
    load.line(&format!(
        "Load on {}, {:?} a mix, oha {}",
        record.url, settings.duration, record.oha
    ))?;
    load.prepare(&mixes).await?;
    for mix in &mixes {
        // A mix that fails does not lose the results of the mixes before it.
        let measured = load.mix(mix).await;
        if measured.is_err() {
            // The next mix that writes needs an account without tasks.
            load.accounts.delete(WRITER).await?;
        }
        let failed = |error| MixRecord::failed(&mix.name, format!("{error:#}"));
        record.mixes.push(measured.unwrap_or_else(failed));
    }
    record.verified = record.mixes.iter().all(|mix| mix.verified);

    let earlier = record::history(&settings.folder);
    load.line(&format!("\n{}", table::text(&record, &earlier)))?;
    let svg = plot::svg(&record, &earlier);
    let [json, svg] = record::save(&settings.folder, &record, &svg)?;
    load.line(&format!("{}\n{}", json.display(), svg.display()))?;
    match record.verified {
        true => Ok(()),
        false => bail!("not every answer was right"),
    }
}

/// An access token of the first user, for requests by hand.
pub async fn token(settings: &Settings) -> anyhow::Result<String> {
    let api = Api::new(&settings.url)?;
    let _lock = lock(settings)?;
    let mut accounts = Accounts::open(&api, &settings.folder)?;
    let needed = Duration::from_secs(60);
    accounts.token(&user(1), needed, &mut |_| ()).await
}

fn check(settings: &Settings) -> anyhow::Result<()> {
    let duration = settings.duration;
    if !(MIN_DURATION..=MAX_DURATION).contains(&duration) {
        bail!("DURATION is {duration:?}; it must be {MIN_DURATION:?} to {MAX_DURATION:?}");
    }
    if !(1..=MAX_USERS).contains(&settings.users) {
        bail!("USERS must be 1 to {MAX_USERS}");
    }
    if settings.connections == 0 {
        bail!("CONNECTIONS must be at least 1");
    }
    Ok(())
}

fn mixes(settings: &Settings) -> anyhow::Result<Vec<Mix>> {
    let Some(file) = &settings.scenario else {
        return mix::chosen(mix::shipped(), &settings.mixes);
    };
    let mut mixes = match settings.mixes.is_empty() {
        true => Vec::new(),
        false => mix::chosen(mix::shipped(), &settings.mixes)?,
    };
    mixes.push(mix::scenario(file)?);
    Ok(mixes)
}

/// Two runs at once would disturb each other's figures and use up each other's refresh tokens.
fn lock(settings: &Settings) -> anyhow::Result<File> {
    let folder = &settings.folder;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("{} cannot be made", folder.display()))?;
    let file = File::create(folder.join("lock"))?;
    file.try_lock().with_context(|| {
        format!(
            "another load test is running (it holds {}/lock)",
            folder.display()
        )
    })?;
    Ok(file)
}

fn user(number: usize) -> String {
    format!("user-{number}")
}

/// A run does not stop because its output cannot be written.
fn print_progress(out: &mut (dyn Write + Send), line: &str) {
    drop(writeln!(out, "  {line}").and_then(|()| out.flush()));
}

struct Load<'a> {
    accounts: Accounts<'a>,
    measure: Measure<'a>,
    users: usize,
    out: &'a mut (dyn Write + Send),
}

impl Load<'_> {
    fn line(&mut self, text: &str) -> anyhow::Result<()> {
        writeln!(self.out, "{text}")?;
        Ok(self.out.flush()?)
    }

    /// Logs all users in before the first mix: logins are rate-limited, and waiting for them must not
    /// count in any mix.
    async fn prepare(&mut self, mixes: &[Mix]) -> anyhow::Result<()> {
        // An interrupted run may have left this account behind.
        self.accounts.delete(WRITER).await?;
        let groups = || mixes.iter().flat_map(|mix| &mix.groups);
        let mut names: Vec<String> = groups().flat_map(|group| self.names(group.who)).collect();
        if mixes.iter().any(Mix::writes) {
            names.push(user(1));
        }
        if mixes.iter().any(|mix| mix.has_listeners) {
            names.extend(self.names(Who::Everybody));
        }
        names.sort_unstable();
        names.dedup();
        for name in &names {
            self.token(name).await?;
        }
        if groups().any(|group| group.who == Who::User) {
            let token = self.token(&user(1)).await?;
            tasks::fill_first_page(self.measure.api, &token).await?;
        }
        self.line(&format!("  users logged in: {}", names.len()))
    }

    /// The names of the users; none for requests without a token.
    fn names(&self, who: Who) -> Vec<String> {
        match who {
            Who::Nobody => Vec::new(),
            Who::User => vec![user(1)],
            Who::Everybody => (1..=self.users).map(user).collect(),
            Who::Writer => vec![WRITER.to_owned()],
            Who::Hot => vec![HOT.to_owned()],
        }
    }

    async fn token(&mut self, name: &str) -> anyhow::Result<String> {
        let needed = self.measure.duration.max(MAX_WAIT) + OVERHEAD;
        let mut progress = |text: &str| print_progress(self.out, text);
        self.accounts.token(name, needed, &mut progress).await
    }

    async fn actors(&mut self, who: Who) -> anyhow::Result<Vec<Actor>> {
        let mut actors = Vec::new();
        for name in self.names(who) {
            let token = Some(self.token(&name).await?);
            actors.push(Actor { name, token });
        }
        Ok(actors)
    }

    async fn mix(&mut self, mix: &Mix) -> anyhow::Result<MixRecord> {
        let listeners = match mix.has_listeners {
            true => self.actors(Who::Everybody).await?,
            false => Vec::new(),
        };
        let mut actors = Vec::new();
        for group in &mix.groups {
            let mut own = self.actors(group.who).await?;
            if own.is_empty() {
                let (name, token) = (group.name.clone(), None);
                own.push(Actor { name, token });
            }
            actors.push(own);
        }
        let first = match mix.writes() {
            true => Some(self.create_first_task().await?),
            false => None,
        };
        let mut progress = |text: &str| print_progress(self.out, &format!("{}: {text}", mix.name));
        let Measured {
            mut record,
            correct,
        } = self
            .measure
            .run(mix, actors, listeners, &mut progress)
            .await?;
        if let Some(first) = first {
            self.count(&mut record, correct, &first).await?;
        }
        let verdict = match record.verified {
            true => "every answer was right",
            false => "NOT every answer was right",
        };
        let brief = |row: &Row| {
            let group = match row.group == row.mix {
                true => String::new(),
                false => format!("{} ", row.group),
            };
            let per_second = table::figure(row.per_second);
            format!("{group}{per_second} × {} a second", row.status)
        };
        let rows: Vec<_> = record.rows.iter().map(brief).collect();
        self.line(&format!("  {}: {}; {verdict}", mix.name, rows.join(", ")))?;
        Ok(record)
    }

    async fn create_first_task(&mut self) -> anyhow::Result<SharedTask> {
        let writer = self.token(WRITER).await?;
        let reader = self.token(&user(1)).await?;
        SharedTask::create(self.measure.api, &writer, &reader).await
    }

    /// Compares the writes that were answered 201 with the tasks and notifications that the platform
    /// has, then deletes the writer and waits until its tasks are gone.
    async fn count(
        &mut self,
        record: &mut MixRecord,
        created: u64,
        first: &SharedTask,
    ) -> anyhow::Result<()> {
        self.line(&format!(
            "  {}: counting {created} tasks, then deleting them",
            record.name
        ))?;
        let api = self.measure.api;
        let token = self.token(WRITER).await?;
        match tasks::count(api, &token, created, 1).await? {
            Ok(fact) => record.facts.push(fact),
            Err(wrong) => record.add_wrong(wrong),
        }
        self.accounts.delete(WRITER).await?;
        let reader = self.token(&user(1)).await?;
        if let Err(wrong) = first.wait_until_deleted(api, &reader, created).await? {
            record.add_wrong(wrong);
        }
        Ok(())
    }
}
