//! `notification-worker`: serves, or asks a running one for its health.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use notification_worker::config::DEFAULT_PORT;
use notification_worker::{Config, run};
use shared::env::ProcessEnv;
use shared::worker::{bind, exit, healthcheck, own_readyz, shutdown_on_signals};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sluice's notification worker. It is configured by environment variables.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve (what happens without a command).
    Serve,
    /// Exits with 0 when the worker is ready.
    Healthcheck {
        /// Its /readyz, if not that of LISTEN.
        url: Option<String>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    exit(match Arguments::parse().command.unwrap_or(Command::Serve) {
        Command::Serve => serve().await,
        Command::Healthcheck { url } => {
            healthcheck(&url.unwrap_or_else(|| own_readyz(&ProcessEnv, DEFAULT_PORT))).await
        }
    })
}

async fn serve() -> anyhow::Result<()> {
    // Two providers are linked, and the drivers refuse to choose. Nobody chose before.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    let config = Config::read(&ProcessEnv)?;
    shared::telemetry::init(&config.settings.log).map_err(anyhow::Error::msg)?;
    let listener = bind(config.settings.listen).await?;
    run(listener, config, shutdown_on_signals()?).await
}
