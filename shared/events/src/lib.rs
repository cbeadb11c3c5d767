//! How what happened in one worker reaches the others: an outbox that is written with the change, a
//! relay that publishes it, a bus, and consumers that apply each event once.
//!
//! The ports are [`outbox::Outbox`] and [`bus::Bus`]; their adapters are crates of their own, which
//! whoever composes a process chooses. A worker's handlers see none of this but [`relay::RelayHandle`].

pub mod outbox;
pub mod relay;

pub mod bus;
pub mod consumer;

mod fail_point;
mod pace;
pub mod readiness;
