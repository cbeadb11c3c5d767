//! The gateway as a process, between a client and upstreams that behave as a test wants.
#![expect(
    clippy::unwrap_used,
    reason = "a test's helper fails the test by panicking, as its facts do"
)]

mod command;
mod gateway;
mod life;
mod proxying;
mod refusals;
mod upstream;
