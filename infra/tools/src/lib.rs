//! The demo and the load test. They use a running platform from outside, through its HTTP API only.
//! No product code depends on this crate.

pub mod demo;
pub mod load;

mod stream;
