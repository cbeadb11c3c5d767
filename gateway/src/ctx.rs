//! What one request has earned and used so far. Made when its head is read, dropped when it ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::admission::Admitted;
use crate::proxy::Live;
use crate::refusal::Refusal;
use crate::upstream::{InFlight, Lease};

/// How far the process is in its life, and how much runs.
#[derive(Debug, Default)]
pub struct Lifecycle {
    draining: AtomicBool,
    arriving: AtomicUsize,
    running: AtomicUsize,
}

impl Lifecycle {
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub fn running(&self) -> usize {
        self.running.load(Ordering::Acquire)
    }

    /// Connections that came in and whose first request has not begun.
    pub fn arriving(&self) -> usize {
        self.arriving.load(Ordering::Acquire)
    }

    pub fn arrive(self: &Arc<Self>) -> Arriving {
        self.arriving.fetch_add(1, Ordering::AcqRel);
        Arriving(self.clone())
    }

    pub fn enter(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::AcqRel);
        Running(self.clone())
    }
}

/// Counts one connection as arriving until it is dropped.
pub struct Arriving(Arc<Lifecycle>);

impl Drop for Arriving {
    fn drop(&mut self) {
        self.0.arriving.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Counts one request as running until it is dropped.
pub struct Running(Arc<Lifecycle>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The state of one request.
pub struct RequestCtx {
    pub started: Instant,
    pub request_id: String,
    /// The configuration that admitted it, to its end: a reload must not change it half-way.
    pub live: Option<Arc<Live>>,
    /// What admission granted; nothing is forwarded without it.
    pub admitted: Option<Admitted>,
    /// Why the request ended here, for the answer and the log.
    pub refusal: Option<Refusal>,
    /// The service's place that this request holds.
    pub place: Option<InFlight>,
    /// The replica that is being asked.
    pub replica: Option<Lease>,
    /// The replicas whose connections failed.
    pub tried: Vec<SocketAddr>,
    /// Attempts that failed.
    pub attempts: u32,
    /// Whether a stale pooled connection has already cost this request its one free repetition.
    pub replayed: bool,
    pub body_bytes: u64,
    /// From the start to the upstream's response head.
    pub first_byte: Option<Duration>,
    /// None for what the drain does not wait for.
    running: Option<Running>,
}

impl RequestCtx {
    pub fn new(lifecycle: &Arc<Lifecycle>) -> Self {
        Self {
            started: Instant::now(),
            request_id: String::new(),
            live: None,
            admitted: None,
            refusal: None,
            place: None,
            replica: None,
            tried: Vec::new(),
            attempts: 0,
            replayed: false,
            body_bytes: 0,
            first_byte: None,
            running: Some(lifecycle.enter()),
        }
    }

    /// The service that was asked; empty where no route was found.
    pub fn service(&self) -> &str {
        let admitted = self.admitted.as_ref();
        admitted.map_or("", |admitted| admitted.route().service.name.as_str())
    }

    /// The drain need not wait for this request.
    pub fn detach(&mut self) {
        self.running = None;
    }

    /// Records a failed attempt. True while the service's rule allows another.
    pub fn may_retry(&mut self) -> bool {
        let Some(admitted) = &self.admitted else {
            return false;
        };
        self.attempts += 1;
        self.attempts < admitted.route().service.attempts
    }
}
