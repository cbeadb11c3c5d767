//! `make load`: the load test. Its words are in `docs/load-testing.md`.

use std::io::{Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use standalone::load::{self, Settings};

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
    /// Prints a fresh access token of the first user's.
    Token,
}

#[derive(Args)]
struct Options {
    /// Where the platform listens.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// How long each mix is measured.
    #[arg(long, default_value = "10s", value_parser = shared::env::parse_duration)]
    duration: Duration,
    /// How many connections each mix has.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// How many users make the crowd.
    #[arg(long, default_value_t = 8)]
    users: usize,
    /// Only these mixes, separated by spaces or commas.
    #[arg(long, default_value = "")]
    mix: String,
    /// A JSON file with a mix of one's own.
    #[arg(long)]
    scenario: Option<PathBuf>,
    /// The oha to run.
    #[arg(long, default_value = "oha")]
    oha: PathBuf,
    /// The gateways' admin listeners, separated by spaces: `http://HOST:PORT`, or `container:NAME`.
    #[arg(long, default_value = "")]
    admins: String,
    /// Where results and users are kept.
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
            Some(Command::Token) => {
                let token = load::token(&settings).await?;
                Ok(writeln!(stdout(), "{token}")?)
            }
        }
    };
    // Dropped, the work kills the processes that it has started.
    let ended = tokio::select! {
        result = work => result,
        signal = interrupted() => signal.and_then(|()| Err(anyhow::anyhow!("interrupted"))),
    };
    shared::worker::exit(ended)
}

/// Ends with the first SIGINT or SIGTERM.
async fn interrupted() -> anyhow::Result<()> {
    let shutdown = shared::worker::shutdown_on_signals()?;
    shutdown.cancelled().await;
    Ok(())
}
