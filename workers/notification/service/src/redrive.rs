//! The command that brings dead letters back, and shows what it does.

use std::io::Write;

use contract::event::EventType;
use events::bus::dead_letters::{DeadLetter, DeadLetters, Redrive, Redriven};

/// Which dead letters, as a command line says it.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: usize,
    /// Only those of queues of this type, such as task.created.v1.
    #[arg(long, value_name = "TYPE", value_parser = event_type)]
    event_type: Option<EventType>,
    /// Only shows what would go.
    #[arg(long)]
    dry_run: bool,
}

fn event_type(text: &str) -> Result<EventType, String> {
    let mut all = EventType::ALL.into_iter();
    all.find(|kind| kind.as_str() == text).ok_or_else(|| {
        format!(
            "must be one of {}",
            EventType::ALL.map(EventType::as_str).join(", ")
        )
    })
}

/// Brings them back: one line for each, and one with the sum.
pub async fn run(
    bus: &dyn DeadLetters,
    options: Options,
    to: &mut (dyn Write + Send),
) -> anyhow::Result<()> {
    let verb = if options.dry_run {
        "would move"
    } else {
        "moved"
    };
    let mut told = Ok(());
    let mut tell = |letter: &DeadLetter| {
        // A reason may quote what a stranger sent.
        let reason = letter.reason.escape_debug();
        let (id, queue) = (letter.event_id.escape_debug(), &letter.queue);
        let line = writeln!(to, "{verb} {id} to {queue}; it was put aside: {reason}");
        if line.is_err() {
            told = line;
        }
    };
    let redrive = Redrive {
        limit: options.limit,
        event_type: options.event_type,
        dry_run: options.dry_run,
    };
    let Redriven { moved, left } = bus.redrive(&redrive, &mut tell).await?;
    told?;
    writeln!(to, "{verb} {moved}, passed over {left}")?;
    Ok(())
}
