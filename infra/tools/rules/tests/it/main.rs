//! The rules of this repository that the compiler cannot check.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod checker;
mod dependencies;
mod modules;
mod services;
mod workspace;
