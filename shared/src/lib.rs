//! What the gateway and the workers both mean: refusals, the signed identity, event envelopes, the
//! way HTTP is served, and the ports behind which stores and brokers stand.
//!
//! This crate knows no worker and no gateway. The drivers of real servers are behind features
//! (`mongo`, `rabbit`), so the gateway links neither; `testing` holds the test kit.

pub mod env;
pub mod id;
pub mod secret;
pub mod time;

pub mod identity;
pub mod problem;
pub mod revocation;

pub mod http;
pub mod pace;
pub mod page;

pub mod bus;
pub mod consumer;
pub mod event;
pub mod outbox;
pub mod relay;
pub mod store;

mod fail_point;
pub mod supervise;
pub mod telemetry;
pub mod worker;

#[cfg(feature = "mongo")]
pub mod mongo;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(feature = "testing")]
pub mod testing;
