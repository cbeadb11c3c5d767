#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod chaos;
mod client;
mod process;
mod servers;
