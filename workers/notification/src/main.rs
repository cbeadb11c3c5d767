//! The notification worker as a process.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use notification_worker::config::DEFAULT_PORT;
use notification_worker::{Config, redrive};
use shared::bus::rabbit::{self, RabbitBus};
use shared::env::{ProcessEnv, Vars};
use shared::worker;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Notifications, as lists and as live streams. Configured by environment variables.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serves until SIGTERM (the default).
    Serve,
    /// Brings dead letters back to the queues they came from. Safe to repeat, and while everything runs.
    Redrive(redrive::Options),
    /// Exits with 0 when the worker is ready, and prints what it says.
    Healthcheck {
        /// Its /readyz, if not that of LISTEN.
        url: Option<String>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    worker::exit(match Cli::parse().command.unwrap_or(Command::Serve) {
        Command::Serve => serve().await,
        Command::Redrive(options) => redrive(options).await,
        Command::Healthcheck { url } => {
            let url = url.unwrap_or_else(|| worker::own_readyz(&ProcessEnv, DEFAULT_PORT));
            worker::healthcheck(&url).await
        }
    })
}

async fn redrive(options: redrive::Options) -> anyhow::Result<()> {
    worker::choose_tls();
    let mut vars = Vars::new(&ProcessEnv);
    let url = rabbit::url(&mut vars);
    let bus = RabbitBus::new(&vars.finish(|| url)?).map_err(anyhow::Error::msg)?;
    redrive::run(&bus, options, &mut std::io::stdout()).await
}

async fn serve() -> anyhow::Result<()> {
    let config = Config::read(&ProcessEnv)?;
    let started = worker::start("notification", &config.settings).await?;
    notification_worker::run(started.listener, config, started.shutdown).await
}
