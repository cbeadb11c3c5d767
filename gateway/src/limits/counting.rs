//! Counts decisions in the tallies of the policies that made them.

use std::sync::atomic::Ordering::Relaxed;

use super::port::{Decision, Take};
use crate::config::FailureMode;

/// Counts a decision that was made from buckets.
pub(super) fn count(decision: &Decision) {
    match decision {
        Decision::Allowed(snapshots) => {
            for snapshot in snapshots {
                snapshot.quota.tally.admitted.fetch_add(1, Relaxed);
            }
        }
        Decision::Limited(snapshots) => {
            for snapshot in snapshots.iter().filter(|s| s.retry_after.is_some()) {
                let (quota, tally) = (&snapshot.quota, &snapshot.quota.tally);
                let counter = if quota.shadow {
                    &tally.shadowed
                } else {
                    &tally.denied
                };
                counter.fetch_add(1, Relaxed);
            }
        }
        Decision::Unavailable => {}
    }
}

/// Counts a decision that was made without buckets, because Redis was away.
pub(super) fn count_unchecked(takes: &[Take<'_>], mode: FailureMode) {
    for take in takes.iter().filter(|t| t.quota.on_redis_failure == mode) {
        let counter = match mode {
            FailureMode::Local => continue,
            FailureMode::Deny => &take.quota.tally.unavailable,
            FailureMode::Allow => &take.quota.tally.unchecked,
        };
        counter.fetch_add(1, Relaxed);
    }
}
