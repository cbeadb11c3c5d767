//! What the three worker processes share: the command line, the settings, and the queues of all
//! consumers. It starts a worker and never decides what a worker does: each worker's own package
//! adds its store and its service, and its `main` calls [`main`].

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use events::bus::Topology;
use mongo::MongoSettings;
use rabbitmq::RabbitBus;
use runtime::env::{EnvErrors, ProcessEnv, Strings, Vars};
use runtime::process::{self, Settings};
use runtime::secret::Secret;
use runtime::supervise::CancellationToken;
use tokio::net::TcpListener;

/// Every queue of the platform. Each process declares all of them, so the order of starts does not
/// matter.
pub fn topology() -> Topology {
    Topology::of(&[&tasks::consumer::QUEUES, &notifications::consumer::QUEUES])
}

/// What every worker process reads from its environment.
#[derive(Debug, Clone)]
pub struct Config {
    pub settings: Settings,
    pub mongo: MongoSettings,
    pub amqp_url: Secret,
}

impl Config {
    /// Reads the variables that all workers share, and those of the store and the broker. `None`
    /// means that `vars` has recorded an error.
    pub fn read(vars: &mut Vars<'_>, default_port: u16) -> Option<Self> {
        let settings = Settings::read(vars, default_port);
        let mongo = MongoSettings::read(vars);
        let amqp_url = rabbitmq::url(vars);
        Some(Self {
            settings: settings?,
            mongo: mongo?,
            amqp_url: amqp_url?,
        })
    }

    /// Reads the same from `source`, for a worker without variables of its own. The error lists
    /// every bad variable.
    pub fn only(source: &dyn Strings, default_port: u16) -> Result<Self, EnvErrors> {
        let mut vars = Vars::new(source);
        let config = Self::read(&mut vars, default_port);
        vars.finish(|| config)
    }

    /// The broker with all queues. Does not connect yet.
    pub fn bus(&self) -> anyhow::Result<RabbitBus> {
        bus(&self.amqp_url)
    }
}

/// The broker at `amqp_url` with all queues. Does not connect yet.
pub fn bus(amqp_url: &Secret) -> anyhow::Result<RabbitBus> {
    RabbitBus::new(amqp_url, topology()).map_err(anyhow::Error::msg)
}

/// A worker, as its process starts it.
pub trait Worker {
    /// The binary's name.
    const NAME: &'static str;
    /// What the worker does, for `--help`.
    const ABOUT: &'static str;
    /// The port to listen on unless `LISTEN` is set.
    const DEFAULT_PORT: u16;
    type Config;
    /// The binary's subcommands besides `serve` and `healthcheck`.
    type Extra: Subcommand;

    /// Reads the environment. The error lists every bad variable.
    fn read(source: &dyn Strings) -> Result<Self::Config, EnvErrors>;

    /// The settings that every worker has.
    fn settings(config: &Self::Config) -> &Settings;

    /// Serves until `shutdown`.
    fn run(
        listener: TcpListener,
        config: Self::Config,
        shutdown: CancellationToken,
    ) -> impl Future<Output = anyhow::Result<()>>;

    /// Runs one of the worker's own subcommands.
    fn extra(extra: Self::Extra) -> impl Future<Output = anyhow::Result<()>>;
}

/// The subcommands of a worker that only serves: none.
#[derive(Debug, Subcommand)]
pub enum Nothing {}

#[derive(Parser)]
#[command(version)]
struct Cli<Extra: Subcommand> {
    #[command(subcommand)]
    command: Option<Command<Extra>>,
}

#[derive(Subcommand)]
enum Command<Extra: Subcommand> {
    /// Serves until SIGTERM (the default).
    Serve,
    #[command(flatten)]
    Extra(Extra),
    /// Exits with 0 if the worker is ready, and prints its answer.
    Healthcheck {
        /// The URL of its /readyz, if it is not at LISTEN.
        url: Option<String>,
    },
}

/// A worker's `main`: parses the command line and runs the subcommand.
pub async fn main<W: Worker>() -> ExitCode {
    let about = format!("{} Configured by environment variables.", W::ABOUT);
    let cli = Cli::<W::Extra>::command().name(W::NAME).about(about);
    let cli = Cli::<W::Extra>::from_arg_matches(&cli.get_matches());
    let cli = cli.unwrap_or_else(|error| error.exit());
    process::exit(match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::<W>().await,
        Command::Extra(extra) => W::extra(extra).await,
        Command::Healthcheck { url } => {
            let own = || process::own_readyz(&ProcessEnv, W::DEFAULT_PORT);
            process::healthcheck(&url.unwrap_or_else(own)).await
        }
    })
}

async fn serve<W: Worker>() -> anyhow::Result<()> {
    let config = W::read(&ProcessEnv)?;
    let started = process::start(W::NAME, W::settings(&config)).await?;
    W::run(started.listener, config, started.shutdown).await
}

#[cfg(test)]
mod tests {
    use events::bus::conformance;

    use super::*;

    #[test]
    fn the_queues_of_all_consumers_are_those_that_every_bus_is_tested_with() {
        let name = |topology: &Topology| -> Vec<_> {
            let mut names: Vec<_> = topology.queues().iter().map(|queue| queue.name).collect();
            names.sort_unstable();
            names
        };
        assert_eq!(name(&topology()), name(&conformance::topology()));
    }
}
