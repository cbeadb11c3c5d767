#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod bus;
mod outages;
