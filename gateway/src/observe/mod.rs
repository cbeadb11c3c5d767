//! What can be seen of a gateway: the access log, its metrics, and the admin listener that serves them.

pub mod access_log;
pub mod admin;
pub mod metrics;
