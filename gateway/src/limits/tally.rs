//! Counters of decisions per policy, for the metrics and `/status`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// The counters of every policy that this process has ever had. There is one per process.
#[derive(Debug, Default)]
pub struct Tallies(Mutex<BTreeMap<String, Arc<Tally>>>);

impl Tallies {
    /// The counters of the policy `name`.
    pub fn of(&self, name: &str) -> Arc<Tally> {
        let mut tallies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(tallies.entry(name.to_owned()).or_default())
    }

    /// All counters, by the name of the policy.
    pub fn snapshot(&self) -> Vec<(String, TallySnapshot)> {
        let tallies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tallies
            .iter()
            .map(|(name, tally)| (name.clone(), tally.snapshot()))
            .collect()
    }
}

/// The counters of one policy.
#[derive(Debug, Default)]
pub struct Tally {
    pub(super) admitted: AtomicU64,
    pub(super) denied: AtomicU64,
    pub(super) too_many_in_flight: AtomicU64,
    pub(super) shadowed: AtomicU64,
    pub(super) unchecked: AtomicU64,
    pub(super) unavailable: AtomicU64,
}

/// The counters of one policy, read at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TallySnapshot {
    /// Requests that took a token.
    pub admitted: u64,
    /// Requests that this policy refused.
    pub denied: u64,
    /// Requests refused because too many of the same key were running (`max_in_flight`).
    pub too_many_in_flight: u64,
    /// Requests that a policy with `shadow: true` would have refused.
    pub shadowed: u64,
    /// Requests admitted without a check while Redis was away (`on_redis_failure: allow`).
    pub unchecked: u64,
    /// Requests refused because Redis was away (`on_redis_failure: deny`).
    pub unavailable: u64,
}

impl Tally {
    pub(super) fn count_too_many_in_flight(&self) {
        self.too_many_in_flight.fetch_add(1, Relaxed);
    }

    fn snapshot(&self) -> TallySnapshot {
        TallySnapshot {
            admitted: self.admitted.load(Relaxed),
            denied: self.denied.load(Relaxed),
            too_many_in_flight: self.too_many_in_flight.load(Relaxed),
            shadowed: self.shadowed.load(Relaxed),
            unchecked: self.unchecked.load(Relaxed),
            unavailable: self.unavailable.load(Relaxed),
        }
    }
}
