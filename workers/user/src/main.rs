//! The user worker as a process.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use shared::env::ProcessEnv;
use shared::secret::Secret;
use shared::{mongo, worker};
use user_worker::Config;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const INITIATION_DEADLINE: Duration = Duration::from_secs(30);

/// Accounts, logins, sessions and public keys. Configured by environment variables.
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
    /// Makes a mongod the only member of the replica set rs0, and waits until it takes writes.
    PrepareMongo {
        #[arg(long, env = "MONGODB_URI", hide_env_values = true)]
        uri: String,
        /// HOST:PORT under which clients reach this mongod.
        #[arg(long)]
        host: String,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    worker::exit(match Cli::parse().command.unwrap_or(Command::Serve) {
        Command::Serve => serve().await,
        Command::Healthcheck { url } => {
            let url =
                url.unwrap_or_else(|| worker::own_readyz(&ProcessEnv, user_worker::DEFAULT_PORT));
            worker::healthcheck(&url).await
        }
        Command::PrepareMongo { uri, host } => {
            let progress = |line: &str| eprintln!("{line}");
            mongo::initiate_replica_set(&Secret::new(uri), &host, INITIATION_DEADLINE, progress)
                .await
        }
    })
}

async fn serve() -> anyhow::Result<()> {
    let config = Config::read(&ProcessEnv)?;
    let started = worker::start("user", &config.settings).await?;
    user_worker::run(started.listener, config, started.shutdown).await
}
