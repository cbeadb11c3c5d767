//! The state of one request. Created when its head was read, dropped when the request ends.

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
    /// The configuration that admitted the request. Kept to its end, so that a reload cannot change it
    /// half-way.
    pub config: Option<Arc<ActiveConfig>>,
    /// Proof of admission; nothing is forwarded without it.
    pub admitted: Option<Admitted>,
    /// Why the request was refused, for the response and the log.
    pub refusal: Option<Refusal>,
    /// Counts this request against the service's `max_in_flight`.
    pub service_permit: Option<ServicePermit>,
    /// The replica of the current attempt.
    pub replica: Option<PickedReplica>,
    /// The replicas whose connections failed.
    pub tried: Vec<SocketAddr>,
    /// Attempts that failed.
    pub attempts: u32,
    /// Whether the one retry that a stale pooled connection gets for free is used up.
    pub free_retry_used: bool,
    pub body_bytes: u64,
    /// Time from the start to the upstream's response head.
    pub first_byte: Option<Duration>,
    /// None once the drain need not wait for this request.
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

    /// The name of the request's service; empty if no route was found.
    pub fn service(&self) -> &str {
        let admitted = self.admitted.as_ref();
        admitted.map_or("", |admitted| admitted.route().service.name.as_str())
    }

    /// Tells the drain not to wait for this request.
    pub fn exclude_from_drain(&mut self) {
        self.running = None;
    }

    /// Counts a failed attempt. True if the service allows another one.
    pub fn record_failed_attempt(&mut self) -> bool {
        let Some(admitted) = &self.admitted else {
            return false;
        };
        self.attempts += 1;
        self.attempts < admitted.route().service.attempts
    }
}
