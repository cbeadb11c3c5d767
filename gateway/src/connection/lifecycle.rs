//! Whether the process is draining, and the connections and requests that the drain waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// How long an idle connection is still read after the stop.
pub(crate) const IDLE_READ_GRACE: Duration = Duration::from_millis(20);

/// Whether the process is draining, and how many requests and connections it has to wait for.
#[derive(Debug, Default)]
pub struct Lifecycle {
    draining: AtomicBool,
    pending_connections: AtomicUsize,
    running_requests: AtomicUsize,
}

impl Lifecycle {
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub fn running_requests(&self) -> usize {
        self.running_requests.load(Ordering::Acquire)
    }

    /// Accepted connections whose first request has not started.
    pub fn pending_connections(&self) -> usize {
        self.pending_connections.load(Ordering::Acquire)
    }

    pub fn connection_accepted(self: &Arc<Self>) -> PendingConnection {
        self.pending_connections.fetch_add(1, Ordering::AcqRel);
        PendingConnection(self.clone())
    }

    pub fn request_started(self: &Arc<Self>) -> RunningRequest {
        self.running_requests.fetch_add(1, Ordering::AcqRel);
        RunningRequest(self.clone())
    }
}

/// Counts one connection as pending until it is dropped.
pub struct PendingConnection(Arc<Lifecycle>);

impl Drop for PendingConnection {
    fn drop(&mut self) {
        self.0.pending_connections.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Counts one request as running until it is dropped.
pub struct RunningRequest(Arc<Lifecycle>);

impl Drop for RunningRequest {
    fn drop(&mut self) {
        self.0.running_requests.fetch_sub(1, Ordering::AcqRel);
    }
}
