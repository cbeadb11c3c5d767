//! `make demo`: shows what the platform does, step by step, and fails at the first wrong answer.

use std::io::{IsTerminal, stdout};
use std::process::ExitCode;

use clap::Parser;

/// Runs the demo against a running platform and checks every answer.
#[derive(Parser)]
struct Arguments {
    /// The platform's address.
    #[arg(long, env = "EDGE_URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Prints plain text; so does a run without a terminal or with NO_COLOR set.
    #[arg(long)]
    no_color: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colour = !arguments.no_color && !no_color && stdout().is_terminal();
    let result = tools::demo::run(&arguments.url, colour, &mut stdout()).await;
    runtime::process::exit(result)
}
