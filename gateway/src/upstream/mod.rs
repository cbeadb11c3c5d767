//! The replicas of a service: which one takes the next request, and which take none for now.
//!
//! A replica is out after failed health checks ([`health`]), or for a second after a connection to
//! it failed (passive ejection). Retrying is the proxy's decision; this module only picks.

mod cluster;
pub mod health;
mod peer;

pub use cluster::{Cluster, PickedReplica, Replica, ServicePermit, Unavailable};
pub use peer::{keepalive_with_timeout, peer};
