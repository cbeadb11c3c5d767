//! The notification worker's binary.

use std::process::ExitCode;

use clap::Subcommand;
use notifications::redrive;
use process::{Config, Worker};
use runtime::env::{EnvErrors, ProcessEnv, Strings, Vars};
use runtime::process::{Settings, choose_tls};
use runtime::supervise::CancellationToken;
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct NotificationWorker;

#[derive(Subcommand)]
enum Extra {
    /// Moves dead letters back to the queues they came from. Safe to repeat, and while everything runs.
    Redrive(redrive::Options),
}

impl Worker for NotificationWorker {
    const NAME: &'static str = "notification-worker";
    const ABOUT: &'static str = "Notifications, as lists and as live streams.";
    const DEFAULT_PORT: u16 = notification_worker::DEFAULT_PORT;
    type Config = Config;
    type Extra = Extra;

    fn read(source: &dyn Strings) -> Result<Config, EnvErrors> {
        Config::only(source, Self::DEFAULT_PORT)
    }

    fn settings(config: &Config) -> &Settings {
        &config.settings
    }

    async fn run(
        listener: TcpListener,
        config: Config,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        notification_worker::run(listener, config, shutdown).await
    }

    async fn extra(Extra::Redrive(options): Extra) -> anyhow::Result<()> {
        choose_tls();
        let mut vars = Vars::new(&ProcessEnv);
        let url = rabbitmq::url(&mut vars);
        let bus = process::bus(&vars.finish(|| url)?)?;
        redrive::run(&bus, options, &mut std::io::stdout()).await
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    process::main::<NotificationWorker>().await
}
