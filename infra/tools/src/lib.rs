//! What drives a running platform from outside, through its HTTP API alone: the demo and the load test.
//! Nothing of the product depends on it.

pub mod demo;
pub mod load;

mod stream;
