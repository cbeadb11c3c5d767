//! The binary `standalone`: the whole platform in one process, and the commands on its data. See
//! [`standalone::single`].

use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use notifications::redrive;
use runtime::process;
use standalone::home::DataFolder;
use standalone::platform::Embedded;
use standalone::single::{self, Options, Standalone};
use standalone::transfer;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sluice in one process: gateway, workers, events and data, without any other server.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Args)]
struct Folder {
    /// The folder with the data.
    #[arg(
        long,
        env = "DATA_DIR",
        value_name = "FOLDER",
        default_value = ".run/standalone"
    )]
    data: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Prints the gateway's built-in configuration.
    PrintConfig,
    /// Writes users, tasks and notifications as lines of JSON, password hashes included. Nothing may run
    /// on the folder.
    Export(Folder),
    /// Moves dead letters back to the queues they came from. Nothing may run on the folder.
    Redrive {
        #[command(flatten)]
        folder: Folder,
        #[command(flatten)]
        redrive: redrive::Options,
    },
    /// Reads what `export` wrote, from standard input, into MongoDB.
    #[cfg(feature = "servers")]
    Import {
        #[arg(long, env = "MONGODB_URI", hide_env_values = true)]
        mongodb_uri: String,
        #[arg(long, env = "MONGODB_DATABASE", default_value = "sluice")]
        database: String,
        /// Finishes an interrupted import.
        #[arg(long)]
        resume: bool,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    process::exit(match cli.command {
        Some(Command::PrintConfig) => {
            print(single::config());
            Ok(())
        }
        Some(Command::Export(Folder { data })) => export(&data).await,
        #[cfg(feature = "servers")]
        Some(Command::Import {
            mongodb_uri,
            database,
            resume,
        }) => import(mongodb_uri, database, resume).await,
        Some(Command::Redrive { folder, redrive }) => {
            redrive_dead_letters(&folder.data, redrive).await
        }
        None => serve(cli.options).await,
    })
}

async fn serve(options: Options) -> anyhow::Result<()> {
    runtime::telemetry::init(&options.log).map_err(anyhow::Error::msg)?;
    let shutdown = process::shutdown_on_signals()?;
    let standalone = Standalone::start(options).await?;
    print(&standalone.banner());
    standalone.serve(shutdown).await
}

async fn redrive_dead_letters(data: &Path, options: redrive::Options) -> anyhow::Result<()> {
    let data_folder = DataFolder::lock(data)?;
    let embedded = Embedded::open(data_folder.folder())?;
    redrive::run(&*embedded.bus, options, &mut std::io::stdout()).await
}

async fn export(data: &Path) -> anyhow::Result<()> {
    let mut output = BufWriter::new(std::io::stdout().lock());
    let totals = transfer::export(data, &mut output).await?;
    eprintln!("exported {totals}");
    Ok(())
}

#[cfg(feature = "servers")]
async fn import(uri: String, database: String, resume: bool) -> anyhow::Result<()> {
    process::choose_tls();
    let mongo = mongo::MongoSettings {
        uri: runtime::secret::Secret::new(uri),
        database,
    };
    let mut input = std::io::stdin().lock();
    let totals = transfer::import(&mongo, &mut input, resume).await?;
    eprintln!("imported {totals}");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "output for the user of the command")]
fn print(text: &str) {
    println!("{text}");
}
