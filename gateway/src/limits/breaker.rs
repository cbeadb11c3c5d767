//! Keeps requests away from a Redis that does not answer.
//!
//! Closed: requests ask Redis. Three failures in a row open it: nobody asks, until a probe in the
//! background (half-open) has succeeded. Requests are never the probe, so none of them waits.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU8, AtomicU32};

const FAILURES_IN_A_ROW: u32 = 3;

/// The state, for `/status`.
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

    /// Closed, and the last call has succeeded.
    pub(super) fn is_healthy(&self) -> bool {
        self.failures.load(Relaxed) == 0 && self.state() == BreakerState::Closed
    }

    pub(super) fn succeeded(&self) {
        // Mostly zero already: a load is cheaper than a store that all cores see.
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
    }

    /// True for the one failure that opens it: that caller starts the probing.
    pub(super) fn failed(&self) -> bool {
        self.failures.fetch_add(1, Relaxed) + 1 >= FAILURES_IN_A_ROW && self.trip()
    }

    /// Opens it at once; false when it was not closed.
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
