#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod conformance;
mod events;
mod http;
mod mongo;
mod support;
