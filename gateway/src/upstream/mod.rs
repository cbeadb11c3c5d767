//! The replicas of a service, and which of them takes the next request.
//!
//! A replica takes no requests after failed health checks ([`health`]), and for a second after a
//! connection to it failed (passive ejection). The proxy decides about retries; this module only picks.

mod cluster;
pub mod health;
mod peer;

pub use cluster::{Cluster, PickedReplica, Replica, ServicePermit, Unavailable};
pub use peer::{keepalive_with_timeout, peer};
