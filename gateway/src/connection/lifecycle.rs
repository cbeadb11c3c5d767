//! How far the process is in its life, and what runs: the drain waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// How much longer than the stop an idle connection is looked at.
pub(crate) const LAST_LOOK: Duration = Duration::from_millis(20);

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
