//! The gateway as a process, between a client and upstreams that behave as a test wants.
#![expect(
    clippy::unwrap_used,
    reason = "a test's helper fails the test by panicking, as its facts do"
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
