//! The command line: `gateway --config FILE` serves, `gateway --check FILE` checks a configuration, and
//! `gateway healthcheck` asks a running gateway whether it is ready.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use gateway::{Config, Signals, Stop};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The gateway of Sluice.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration to serve with.
    #[arg(long, env = "GATEWAY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Checks a configuration, reports every error with its position, and exits.
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Exits with 0 if a running gateway is ready, and prints its answer.
    Healthcheck {
        #[arg(default_value = "http://127.0.0.1:9001/readyz")]
        url: String,
    },
}

fn main() -> ExitCode {
    runtime::process::exit(run(Arguments::parse()))
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    if let Some(Command::Healthcheck { url }) = &arguments.command {
        return tokio::runtime::Runtime::new()?.block_on(runtime::process::healthcheck(url));
    }
    let env = |name: &str| std::env::var(name).ok();
    if let Some(file) = &arguments.check {
        let config = Config::load(file, &env)?;
        eprintln!(
            "{}: good, {} services",
            file.display(),
            config.services.len()
        );
        return Ok(());
    }
    let Some(file) = &arguments.config else {
        anyhow::bail!("name a configuration: gateway --config infra/gateway/gateway.yaml");
    };
    // Pingora logs an error for each client that disconnects early. The access log has them already.
    let filter =
        env("LOG").unwrap_or_else(|| "info,pingora_proxy=off,pingora_core=warn".to_owned());
    runtime::telemetry::init(&filter).map_err(anyhow::Error::msg)?;
    // Two TLS providers are linked, and a `rediss://` connection needs one of them to be chosen.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    let config = Config::load(file, &env)?;
    let signals = Signals::watch().context("signals cannot be watched")?;
    let gateway = gateway::build(&config, Stop::Signals(signals))?;
    tracing::info!(http = %config.listen.http, admin = %config.listen.admin, "listening on {}", config.listen.http);
    gateway.run();
    Ok(())
}
