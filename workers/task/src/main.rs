//! The task worker's binary.

use std::process::ExitCode;

use process::{Nothing, Worker};
use runtime::env::{EnvErrors, Strings};
use runtime::process::Settings;
use runtime::supervise::CancellationToken;
use task_worker::Config;
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct TaskWorker;

impl Worker for TaskWorker {
    const NAME: &'static str = "task-worker";
    const ABOUT: &'static str = "Tasks, and the relay of their events.";
    const DEFAULT_PORT: u16 = task_worker::DEFAULT_PORT;
    type Config = Config;
    type Extra = Nothing;

    fn read(source: &dyn Strings) -> Result<Config, EnvErrors> {
        Config::read(source)
    }

    fn settings(config: &Config) -> &Settings {
        &config.worker.settings
    }

    async fn run(
        listener: TcpListener,
        config: Config,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        task_worker::run(listener, config, shutdown).await
    }

    async fn extra(nothing: Nothing) -> anyhow::Result<()> {
        match nothing {}
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    process::main::<TaskWorker>().await
}
