//! The configuration in force, in the form that requests need.

use std::sync::Arc;
use std::time::Duration;

use contract::identity::SigningKeys;

use super::admission::Admission;
use crate::upstream::Cluster;

/// Everything about requests that depends on the configuration. Always replaced as a whole.
pub struct ActiveConfig {
    pub admission: Admission,
    /// In the order of `Config::services`.
    pub clusters: Vec<Arc<Cluster>>,
    pub keys: SigningKeys,
    pub head_timeout: Duration,
    pub idle_timeout: Duration,
}
