//! Limits the cost of forged tokens: an address that sends many of them is refused without a check.
//!
//! Checking a signature takes about 60 µs, which no client may cause without bound. The counts are
//! estimates in fixed memory and can only be too high, so they limit this cost and nothing else: a
//! token that was verified before is accepted whatever its address does.

use std::net::IpAddr;
use std::time::Duration;

use pingora_limits::rate::Rate;

const FAILURES_PER_SECOND: isize = 100;
const HASHES: usize = 4;
/// 512 KiB in all. An innocent address is refused only if it shares all four of its slots with
/// offenders.
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

/// The network by which an address is counted. One customer usually has a whole IPv6 /64.
fn network(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(v4) => u64::from(u32::from(v4)),
        IpAddr::V6(v6) => (u128::from(v6) >> 64) as u64,
    }
}
