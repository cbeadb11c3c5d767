//! What a task is and how it may change.
//!
//! Every change returns the next version of the task together with the one event that describes it,
//! so a caller cannot store one without the other. The times of a task strictly increase with its
//! versions. The domain is pure: it reads no clock and knows no store and no HTTP. The handlers and
//! the eraser call it, and pass what it returns to the store.

mod change;
mod erasure;
mod task;
#[cfg(test)]
mod tests;

pub use self::change::{Change, Refusal};
pub use self::erasure::{Erased, Erasure};
pub(crate) use self::task::string_enum;
pub use self::task::*;
