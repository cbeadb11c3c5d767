//! What a configuration becomes while it is in force.

use std::sync::Arc;
use std::time::Duration;

use contract::identity::SigningKeys;

use super::admission::Admission;
use crate::upstream::Cluster;

/// What one configuration makes of a request; swapped whole.
pub struct ActiveConfig {
    pub admission: Admission,
    /// In the order of the configuration's services.
    pub clusters: Vec<Arc<Cluster>>,
    pub keys: SigningKeys,
    pub head_timeout: Duration,
    pub idle_timeout: Duration,
}
