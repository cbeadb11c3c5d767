//! The user worker's binary.

use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use process::Worker;
use runtime::env::{EnvErrors, Strings};
use runtime::process::Settings;
use runtime::secret::Secret;
use runtime::supervise::CancellationToken;
use tokio::net::TcpListener;
use user_worker::Config;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const INITIATION_DEADLINE: Duration = Duration::from_secs(30);

struct UserWorker;

#[derive(Subcommand)]
enum Extra {
    /// Makes a mongod the only member of the replica set rs0, and waits until it accepts writes.
    PrepareMongo {
        #[arg(long, env = "MONGODB_URI", hide_env_values = true)]
        uri: String,
        /// The HOST:PORT at which clients reach this mongod.
        #[arg(long)]
        host: String,
    },
}

impl Worker for UserWorker {
    const NAME: &'static str = "user-worker";
    const ABOUT: &'static str = "Accounts, logins, sessions and public keys.";
    const DEFAULT_PORT: u16 = user_worker::DEFAULT_PORT;
    type Config = Config;
    type Extra = Extra;

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
        user_worker::run(listener, config, shutdown).await
    }

    async fn extra(Extra::PrepareMongo { uri, host }: Extra) -> anyhow::Result<()> {
        let progress = |line: &str| eprintln!("{line}");
        mongo::initiate_replica_set(&Secret::new(uri), &host, INITIATION_DEADLINE, progress).await
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    process::main::<UserWorker>().await
}
