//! The platform end to end: gateways and workers with real servers on free ports, each test with a
//! database, a virtual host and a Redis of its own.

#![expect(
    clippy::unwrap_used,
    reason = "tests panic, and so do the functions they share"
)]

mod backlog;
mod connection;
mod echo;
mod world;

mod accounts;
mod delivery;
mod documents;
mod identity;
mod limits;
mod refusals;
mod rules;
mod story;
mod streaming;
