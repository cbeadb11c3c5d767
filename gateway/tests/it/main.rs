//! The gateway as a process, between a client and upstreams that behave as each test needs.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail a test by panicking"
)]

mod auth;
mod bodies;
mod canonical;
mod command;
mod edge;
mod gateway;
mod identity;
mod life;
mod lifecycle;
mod limits;
mod proxying;
mod refusals;
mod revocation;
mod upstream;
mod wire;
