//! The `redrive` command: moves dead letters back to their queues and prints what it moves. It never
//! applies an event itself. The worker's binary and `standalone` call it.

use std::io::Write;

use contract::event::EventType;
use events::bus::dead_letters::{DeadLetter, DeadLetters, Redrive, Redriven};

/// The command's arguments: which dead letters to move.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Moves at most this many.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: usize,
    /// Moves only those from queues of this event type, such as task.created.v1.
    #[arg(long, value_name = "TYPE", value_parser = event_type)]
    event_type: Option<EventType>,
    /// Only shows what would be moved.
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

/// Moves the dead letters and prints one line for each, then one with the totals.
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
    let mut printed = Ok(());
    let mut print = |letter: &DeadLetter| {
        // A reason may quote what an untrusted client sent.
        let reason = letter.reason.escape_debug();
        let (id, queue) = (letter.event_id.escape_debug(), &letter.queue);
        let line = writeln!(to, "{verb} {id} to {queue}; it was put aside: {reason}");
        if line.is_err() {
            printed = line;
        }
    };
    let redrive = Redrive {
        limit: options.limit,
        event_type: options.event_type,
        dry_run: options.dry_run,
    };
    let Redriven { moved, left } = bus.redrive(&redrive, &mut print).await?;
    printed?;
    writeln!(to, "{verb} {moved}, passed over {left}")?;
    Ok(())
}
