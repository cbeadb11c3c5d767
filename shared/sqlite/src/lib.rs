//! How workers keep data in SQLite: one file each, for a platform that runs in one process.
//!
//! One thread writes, and commits what has gathered meanwhile as one transaction: a commit is one
//! flush to the disk, however many wait for it. Readers have connections of their own and never wait
//! for the writer. What a write has answered survives the loss of power (WAL, `synchronous=FULL`).
//!
//! A file belongs to one process; whoever opens it makes sure of that.

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
