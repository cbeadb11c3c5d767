//! Makes garbage cheap: an address that sends forged tokens is soon not verified any more.
//!
//! Checking a signature costs some 60 µs, which nobody may buy without bound. Counts are estimates
//! in fixed memory (they can only be too high), so they guard this cost and nothing else: tokens
//! that were verified before pass whatever their address does.

use std::net::IpAddr;
use std::time::Duration;

use pingora_limits::rate::Rate;

const FAILURES_PER_SECOND: isize = 100;
const HASHES: usize = 4;
/// 512 KiB in all; an innocent address is hit when all four of its slots are shared with offenders.
const SLOTS: usize = 8192;

pub(super) struct FailureGuard(Rate);

impl Default for FailureGuard {
    fn default() -> Self {
        let second = Duration::from_secs(1);
        Self(Rate::new_with_estimator_config(second, HASHES, SLOTS))
    }
}

impl FailureGuard {
    pub(super) fn too_many(&self, client: IpAddr) -> bool {
        self.0.observe(&network(client), 0) >= FAILURES_PER_SECOND
    }

    pub(super) fn count(&self, client: IpAddr) {
        self.0.observe(&network(client), 1);
    }
}

/// One customer has a whole IPv6 /64.
fn network(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(v4) => u64::from(u32::from(v4)),
        IpAddr::V6(v6) => (u128::from(v6) >> 64) as u64,
    }
}
