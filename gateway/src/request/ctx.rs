//! What one request has earned and used so far. Made when its head is read, dropped when it ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::connection::lifecycle::{Lifecycle, RunningRequest};
use crate::request::active_config::ActiveConfig;
use crate::request::admission::Admitted;
use crate::request::refusal::Refusal;
use crate::upstream::{PickedReplica, ServicePermit};

/// The state of one request.
pub struct RequestCtx {
    pub started: Instant,
    pub request_id: String,
    /// The configuration that admitted it, to its end: a reload must not change it half-way.
    pub config: Option<Arc<ActiveConfig>>,
    /// What admission granted; nothing is forwarded without it.
    pub admitted: Option<Admitted>,
    /// Why the request ended here, for the answer and the log.
    pub refusal: Option<Refusal>,
    /// The service's place that this request holds.
    pub service_permit: Option<ServicePermit>,
    /// The replica that is being asked.
    pub replica: Option<PickedReplica>,
    /// The replicas whose connections failed.
    pub tried: Vec<SocketAddr>,
    /// Attempts that failed.
    pub attempts: u32,
    /// Whether a stale pooled connection has already cost this request its one free repetition.
    pub free_retry_used: bool,
    pub body_bytes: u64,
    /// From the start to the upstream's response head.
    pub first_byte: Option<Duration>,
    /// None for what the drain does not wait for.
    running: Option<RunningRequest>,
}

impl RequestCtx {
    pub fn new(lifecycle: &Arc<Lifecycle>) -> Self {
        Self {
            started: Instant::now(),
            request_id: String::new(),
            config: None,
            admitted: None,
            refusal: None,
            service_permit: None,
            replica: None,
            tried: Vec::new(),
            attempts: 0,
            free_retry_used: false,
            body_bytes: 0,
            first_byte: None,
            running: Some(lifecycle.request_started()),
        }
    }

    /// The service that was asked; empty where no route was found.
    pub fn service(&self) -> &str {
        let admitted = self.admitted.as_ref();
        admitted.map_or("", |admitted| admitted.route().service.name.as_str())
    }

    /// The drain need not wait for this request.
    pub fn exclude_from_drain(&mut self) {
        self.running = None;
    }

    /// Records a failed attempt. True while the service's rule allows another.
    pub fn record_failed_attempt(&mut self) -> bool {
        let Some(admitted) = &self.admitted else {
            return false;
        };
        self.attempts += 1;
        self.attempts < admitted.route().service.attempts
    }
}
