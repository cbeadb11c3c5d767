//! `make load`: how fast the platform answers, and whether each answer was right.
//!
//! oha makes the load, one process for each user of a mix. This module decides who asks for what and
//! how hard, reads what oha counted, and holds it against limits, lengths, whole answers and the
//! platform's own counts. Nothing that is not accounted for becomes a figure without a mark.

mod accounts;
mod api;
mod lane;
mod ledger;
mod limits;
mod measure;
mod mix;
mod oha;
pub mod outage;
mod plot;
mod record;
mod table;
mod tasks;
mod told;

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
use self::lane::Actor;
use self::measure::{Measure, Measured, OVERHEAD};
use self::mix::{Mix, Who};
use self::oha::Oha;
use self::record::{MixRecord, Record, Row};
use self::tasks::{LONGEST_PATIENCE, Witnessed};

const MIN_DURATION: Duration = Duration::from_secs(1);
/// An access token lives for ten minutes.
const MAX_DURATION: Duration = Duration::from_secs(8 * 60);
const MAX_USERS: usize = 64;
const WRITER: &str = "writer";
const HOT: &str = "hot";

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `http://HOST:PORT`.
    pub url: String,
    /// Of each mix, without its warm-up.
    pub duration: Duration,
    /// Of each mix, all processes together.
    pub connections: usize,
    /// How many make a crowd.
    pub users: usize,
    /// All when empty.
    pub mixes: Vec<String>,
    /// A mix of one's own, run instead of the shipped ones unless these are named.
    pub scenario: Option<PathBuf>,
    pub oha: PathBuf,
    /// The gateways' admin listeners, `http://HOST:PORT` or `container:NAME`: they tell whether Redis
    /// was there all the time.
    pub admins: Vec<String>,
    /// Where records and users are kept.
    pub folder: PathBuf,
}

/// Measures all mixes and shows and keeps the result. An error when anything was not right.
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
        // What was measured before is not lost because of this one.
        let measured = load.mix(mix).await;
        if measured.is_err() {
            // The next writer is to begin with nothing.
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

/// An access token of the first user's, for requests of one's own.
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

/// Two runs at once would measure each other and spend each other's refresh tokens.
fn lock(settings: &Settings) -> anyhow::Result<File> {
    let folder = &settings.folder;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("{} cannot be made", folder.display()))?;
    let file = File::create(folder.join("lock"))?;
    file.try_lock().with_context(|| {
        format!(
            "another load test runs (it holds {}/lock)",
            folder.display()
        )
    })?;
    Ok(file)
}

fn user(number: usize) -> String {
    format!("user-{number}")
}

/// A line that cannot be written is no reason to stop.
fn progress(out: &mut (dyn Write + Send), line: &str) {
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

    /// All logins first: they are limited, and their waits are no part of any mix.
    async fn prepare(&mut self, mixes: &[Mix]) -> anyhow::Result<()> {
        // What an interrupted run has left.
        self.accounts.delete(WRITER).await?;
        let groups = || mixes.iter().flat_map(|mix| &mix.groups);
        let mut names: Vec<String> = groups().flat_map(|group| self.names(group.who)).collect();
        if mixes.iter().any(Mix::writes) {
            names.push(user(1));
        }
        if mixes.iter().any(|mix| mix.told) {
            names.extend(self.names(Who::Everybody));
        }
        names.sort_unstable();
        names.dedup();
        for name in &names {
            self.token(name).await?;
        }
        if groups().any(|group| group.who == Who::User) {
            let token = self.token(&user(1)).await?;
            tasks::stock(self.measure.api, &token).await?;
        }
        self.line(&format!("  users logged in: {}", names.len()))
    }

    /// Who acts, by name; nobody has none.
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
        let needed = self.measure.duration.max(LONGEST_PATIENCE) + OVERHEAD;
        let mut tell = |text: &str| progress(self.out, text);
        self.accounts.token(name, needed, &mut tell).await
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
        let listeners = match mix.told {
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
            true => Some(self.first_task().await?),
            false => None,
        };
        let mut tell = |text: &str| progress(self.out, &format!("{}: {text}", mix.name));
        let Measured { mut record, right } =
            self.measure.run(mix, actors, listeners, &mut tell).await?;
        if let Some(first) = first {
            self.count(&mut record, right, &first).await?;
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

    async fn first_task(&mut self) -> anyhow::Result<Witnessed> {
        let writer = self.token(WRITER).await?;
        let witness = self.token(&user(1)).await?;
        Witnessed::create(self.measure.api, &writer, &witness).await
    }

    /// Holds the writes against what the platform has of them, then deletes it all.
    async fn count(
        &mut self,
        record: &mut MixRecord,
        created: u64,
        first: &Witnessed,
    ) -> anyhow::Result<()> {
        self.line(&format!(
            "  {}: counting {created} tasks, then deleting them",
            record.name
        ))?;
        let api = self.measure.api;
        let token = self.token(WRITER).await?;
        match tasks::count(api, &token, created, 1).await? {
            Ok(fact) => record.facts.push(fact),
            Err(wrong) => record.is_wrong(wrong),
        }
        self.accounts.delete(WRITER).await?;
        let witness = self.token(&user(1)).await?;
        if let Err(wrong) = first.gone(api, &witness, created).await? {
            record.is_wrong(wrong);
        }
        Ok(())
    }
}
