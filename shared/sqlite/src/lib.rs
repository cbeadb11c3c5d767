//! How workers keep data in SQLite: one file each, for a platform that runs in one process.
//!
//! One thread writes. It commits all jobs that wait as one transaction, so a commit is one flush to the
//! disk, however many jobs it holds. Readers have connections of their own and never wait for the writer.
//! A write that was answered survives a loss of power (WAL, `synchronous=FULL`).
//!
//! A file must belong to one process; the caller that opens it makes sure of that.

pub mod bus;
pub mod outbox;

mod columns;
mod connection;
mod database;
mod readers;
mod writer;

#[cfg(test)]
mod tests;

pub use columns::{json, millis, parsed, time, to_json, unreadable};
pub use connection::DEADLINE;
pub use database::{Database, OpenError};
pub use rusqlite;
