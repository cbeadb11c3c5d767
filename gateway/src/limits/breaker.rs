//! A circuit breaker that keeps requests away from a Redis that does not answer.
//!
//! Closed: requests use Redis. Three failures in a row open it. Open: no request uses Redis until a
//! background probe (half open) has succeeded. Requests never serve as the probe, so none of them waits
//! for it.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU8, AtomicU32};

const FAILURES_IN_A_ROW: u32 = 3;

/// The state of the breaker, for `/status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum BreakerState {
    Closed,
    Open,
    HalfOpen,
}

impl BreakerState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Breaker {
    state: AtomicU8,
    failures: AtomicU32,
}

impl Breaker {
    pub(super) fn state(&self) -> BreakerState {
        match self.state.load(Acquire) {
            0 => BreakerState::Closed,
            1 => BreakerState::Open,
            _ => BreakerState::HalfOpen,
        }
    }

    /// Closed, and the last call succeeded.
    pub(super) fn is_healthy(&self) -> bool {
        self.failures.load(Relaxed) == 0 && self.state() == BreakerState::Closed
    }

    pub(super) fn succeeded(&self) {
        // Usually zero already, and a load is cheaper than a store that invalidates other cores' caches.
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
    }

    /// Records a failure. True for the one that opens the breaker; that caller starts the probe.
    pub(super) fn failed(&self) -> bool {
        self.failures.fetch_add(1, Relaxed) + 1 >= FAILURES_IN_A_ROW && self.trip()
    }

    /// Opens it at once. False if it was not closed.
    pub(super) fn trip(&self) -> bool {
        self.state
            .compare_exchange(
                BreakerState::Closed as u8,
                BreakerState::Open as u8,
                AcqRel,
                Acquire,
            )
            .is_ok()
    }

    pub(super) fn half_open(&self) {
        self.state.store(BreakerState::HalfOpen as u8, Release);
    }

    pub(super) fn reopen(&self) {
        self.state.store(BreakerState::Open as u8, Release);
    }

    pub(super) fn close(&self) {
        self.failures.store(0, Relaxed);
        self.state.store(BreakerState::Closed as u8, Release);
    }
}
