//! The task worker's tests: its stores, its API and its process, on real servers.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod attachments;
mod conditions;
mod conformance;
mod erasure;
mod events;
mod file_store;
mod http;
mod idempotency;
mod lifecycle;
mod mongo;
mod process;
mod refill;
mod sqlite;
mod support;
