//! Moves what a platform in one process has gathered to where it can grow: accounts, tasks with their
//! history and files, notifications with their counts. Lines of JSON in between, for whoever wants to look.
//!
//! Sessions and the keys of requests stay behind: users log in again.

mod export;
mod format;
#[cfg(feature = "servers")]
mod import;

pub use export::export;
pub use format::Totals;
#[cfg(feature = "servers")]
pub use import::import;
