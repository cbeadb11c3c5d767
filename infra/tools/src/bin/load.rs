//! `make load`: the load test. `docs/load-testing.md` explains its terms.

use std::io::{Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tools::load::outage::{self, Outage};
use tools::load::{self, Settings};

/// Loads a running platform with oha and checks every answer.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Prints a fresh access token of the first user.
    Token,
    /// Stops RabbitMQ while tasks are created, and measures the backlog and how fast it drains.
    Outage(OutageOptions),
}

#[derive(Args)]
struct OutageOptions {
    /// A shell command that stops RabbitMQ.
    #[arg(long)]
    away: String,
    /// A shell command that starts it again.
    #[arg(long)]
    back: String,
    /// How long it is down at least.
    #[arg(long, default_value = "60s", value_parser = runtime::env::parse_duration)]
    length: Duration,
    /// It stays down until this many notifications are pending.
    #[arg(long, default_value_t = 0)]
    pending: u64,
    /// Tasks a second. 0: as fast as the answers arrive, and no tasks after the outage.
    #[arg(long, default_value = "800", value_parser = rate)]
    rate: f64,
    /// The file NAME.pid of a process whose memory is measured; may be given several times.
    #[arg(long)]
    process: Vec<PathBuf>,
    /// The file for the result.
    #[arg(long)]
    json: PathBuf,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text
        .parse()
        .ok()
        .filter(|rate: &f64| rate.is_finite() && *rate >= 0.0);
    rate.ok_or_else(|| "it must be tasks a second, 0 or more".to_owned())
}

#[derive(Args)]
struct Options {
    /// The platform's address.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// How long each mix is measured.
    #[arg(long, default_value = "10s", value_parser = runtime::env::parse_duration)]
    duration: Duration,
    /// How many connections each mix uses.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// How many users the mixes with several users have.
    #[arg(long, default_value_t = 8)]
    users: usize,
    /// Runs only these mixes, separated by spaces or commas.
    #[arg(long, default_value = "")]
    mix: String,
    /// A JSON file with a custom mix.
    #[arg(long)]
    scenario: Option<PathBuf>,
    /// The path of oha.
    #[arg(long, default_value = "oha")]
    oha: PathBuf,
    /// The gateways' admin listeners, separated by spaces: `http://HOST:PORT`, or `container:NAME`.
    #[arg(long, default_value = "")]
    admins: String,
    /// Where results and accounts are stored.
    #[arg(long, default_value = ".run/load")]
    folder: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Arguments { options, command } = Arguments::parse();
    let names = options
        .mix
        .split([' ', ','])
        .filter(|name| !name.is_empty());
    let settings = Settings {
        mixes: names.map(str::to_owned).collect(),
        url: options.url,
        duration: options.duration,
        connections: options.connections,
        users: options.users,
        scenario: options.scenario,
        oha: options.oha,
        admins: options
            .admins
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        folder: options.folder,
    };
    let work = async {
        match command {
            None => load::run(&settings, &mut stdout()).await,
            Some(Command::Outage(options)) => {
                let outage = Outage {
                    away: options.away,
                    back: options.back,
                    length: options.length,
                    pending: options.pending,
                    rate: (options.rate > 0.0).then_some(options.rate),
                    processes: options.process,
                    json: options.json,
                };
                outage::run(&settings, &outage, &mut stdout()).await
            }
            Some(Command::Token) => {
                let token = load::token(&settings).await?;
                Ok(writeln!(stdout(), "{token}")?)
            }
        }
    };
    // When `work` is dropped, it kills the processes that it has started.
    let ended = tokio::select! {
        result = work => result,
        signal = interrupted() => signal.and_then(|()| Err(anyhow::anyhow!("interrupted"))),
    };
    runtime::process::exit(ended)
}

/// Ends with the first SIGINT or SIGTERM.
async fn interrupted() -> anyhow::Result<()> {
    let shutdown = runtime::process::shutdown_on_signals()?;
    shutdown.cancelled().await;
    Ok(())
}
