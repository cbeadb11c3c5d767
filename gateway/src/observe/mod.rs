//! Observing a gateway: the access log, the metrics, and the admin listener that serves the metrics.

pub mod access_log;
pub mod admin;
pub mod metrics;
