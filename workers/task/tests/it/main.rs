#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod attachments;
mod conditions;
mod conformance;
mod erasure;
mod events;
mod http;
mod idempotency;
mod lifecycle;
mod mongo;
mod process;
mod refill;
mod sqlite;
mod support;
