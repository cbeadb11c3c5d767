//! The whole platform in one process, and the story that shows it from outside.
//!
//! The only crate that knows the gateway and every worker. It composes them; what they do is theirs.

#[cfg(feature = "embedded")]
pub mod home;
#[cfg(feature = "embedded")]
pub mod platform;
#[cfg(feature = "embedded")]
pub mod single;
#[cfg(feature = "embedded")]
pub mod transfer;

pub mod demo;
pub mod load;
mod stream;
