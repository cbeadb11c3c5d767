//! How an event of one worker reaches the others: an outbox that is written with the change, a relay that
//! publishes it, a bus, and consumers that apply each event once.
//!
//! The ports are [`outbox::Outbox`] and [`bus::Bus`]. Their adapters are separate crates, chosen by the
//! composition root of each process. A worker's handlers see only [`relay::RelayHandle`].

pub mod outbox;
pub mod relay;

pub mod bus;
pub mod consumer;

mod fail_point;
mod pace;
pub mod readiness;
