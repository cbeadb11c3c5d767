//! What a task is and how it may change. Pure: no clock, no store, no HTTP.
//!
//! Every change makes the next version of the task and the one event that tells of it, together, so
//! nobody can keep one without the other. Times of one task strictly increase with its versions.

mod change;
mod erasure;
mod task;
#[cfg(test)]
mod tests;

pub use self::change::{Change, Refusal};
pub use self::erasure::{Erased, Erasure};
pub(crate) use self::task::words;
pub use self::task::*;
