//! The whole platform in one process: what `make run` starts, and the way from there into MongoDB.
//!
//! The only crate that knows the gateway and every worker. It composes them; what they do is theirs.

pub mod home;
pub mod platform;
pub mod single;
pub mod transfer;
