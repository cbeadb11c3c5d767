//! How far the process is in its life, and what runs: the drain waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// How much longer than the stop an idle connection is looked at.
pub(crate) const IDLE_READ_GRACE: Duration = Duration::from_millis(20);

/// How far the process is in its life, and how much runs.
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

    /// Connections that came in and whose first request has not begun.
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

/// Counts one connection as arriving until it is dropped.
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
