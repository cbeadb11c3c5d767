//! `make demo`: tells the platform's story to whoever watches, and fails when it is not true.

use std::io::{IsTerminal, stdout};
use std::process::ExitCode;

use clap::Parser;

/// Runs the whole story against a running platform and checks every answer.
#[derive(Parser)]
struct Arguments {
    /// Where the platform listens.
    #[arg(long, env = "EDGE_URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Plain text; also without a terminal, and with NO_COLOR set.
    #[arg(long)]
    no_color: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colour = !arguments.no_color && !unwanted && stdout().is_terminal();
    let told = tools::demo::run(&arguments.url, colour, &mut stdout()).await;
    runtime::process::exit(told)
}
