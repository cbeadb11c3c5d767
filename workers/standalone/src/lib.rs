//! The whole platform in one process, and the story that shows it from outside.
//!
//! The only crate that knows the gateway and every worker. It composes them; what they do is theirs.

pub mod home;
pub mod platform;
pub mod single;
pub mod transfer;

pub mod demo;
pub mod load;
mod stream;
