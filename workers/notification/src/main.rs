//! The notification worker as a process.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use notification_worker::Config;
use notification_worker::config::DEFAULT_PORT;
use shared::env::ProcessEnv;
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
        Command::Healthcheck { url } => {
            let url = url.unwrap_or_else(|| worker::own_readyz(&ProcessEnv, DEFAULT_PORT));
            worker::healthcheck(&url).await
        }
    })
}

async fn serve() -> anyhow::Result<()> {
    let config = Config::read(&ProcessEnv)?;
    let started = worker::start("notification", &config.settings).await?;
    notification_worker::run(started.listener, config, started.shutdown).await
}
