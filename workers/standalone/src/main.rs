//! `standalone`: the whole platform in one process. See [`standalone::single`].

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use shared::worker;
use standalone::single::{self, Options, Single};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sluice in one process: gateway, workers, events and data, without a server beside it.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Prints the configuration of the gateway that is built in.
    PrintConfig,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    worker::exit(match cli.command {
        Some(Command::PrintConfig) => {
            print(single::config());
            Ok(())
        }
        None => serve(cli.options).await,
    })
}

async fn serve(options: Options) -> anyhow::Result<()> {
    shared::telemetry::init(&options.log).map_err(anyhow::Error::msg)?;
    let shutdown = worker::shutdown_on_signals()?;
    let single = Single::start(options).await?;
    print(&single.banner());
    single.serve(shutdown).await
}

#[expect(clippy::print_stdout, reason = "for whoever started it")]
fn print(text: &str) {
    println!("{text}");
}
