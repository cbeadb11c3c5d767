//! Notifications in SQLite, for the platform in one process.
//!
//! Invariant: a count changes in the same job of the writer as what it counts, and jobs run one after
//! another.

mod apply;
mod export;
mod forget;
mod lists;
mod marks;
mod port;
mod read_all;
mod store;

pub use store::SqliteNotifications;
