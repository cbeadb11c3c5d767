//! The rules of the house that the compiler does not hold.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod checker;
mod dependencies;
mod modules;
mod services;
mod workspace;
