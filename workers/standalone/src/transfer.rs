//! Moves the data of the platform in one process to MongoDB: accounts, tasks with their history and
//! files, notifications with their counts. In between it is lines of JSON, which can be inspected.
//!
//! Sessions and idempotency keys are not moved: users log in again. The commands `export` and `import`
//! call it.

mod export;
mod format;
#[cfg(feature = "servers")]
mod import;

pub use export::export;
pub use format::Totals;
#[cfg(feature = "servers")]
pub use import::import;
