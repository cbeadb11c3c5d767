//! A limit policy whose numbers were checked.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use super::bucket::Shape;
use super::sizing::LeaseSizing;
use super::tally::{Tallies, Tally};
use crate::config::{FailureMode, Policy, Rate};

/// One policy, ready to be enforced: its numbers are checked and its header text is built.
#[derive(Debug)]
pub struct Quota {
    pub(super) name: Box<str>,
    pub(super) rate: Rate,
    pub(super) burst: u32,
    pub(super) on_redis_failure: FailureMode,
    pub(super) max_in_flight: Option<u32>,
    pub(super) shadow: bool,
    /// The bucket that all gateways share.
    pub(super) shape: Shape,
    /// This gateway's share of it while Redis is away.
    pub(super) share: Shape,
    /// How many of its tokens this gateway leases, and for how long.
    pub(super) sizing: LeaseSizing,
    pub(super) policy_header: HeaderValue,
    pub(super) tally: Arc<Tally>,
}

/// A policy whose numbers are too large for a bucket.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the policy `{name}` cannot be counted exactly: lower its burst")]
pub struct QuotaError {
    name: String,
}

impl Quota {
    /// Uses the counters of the same policy name in `tallies`, so that they survive a reload.
    pub fn new(policy: &Policy, gateways: u32, tallies: &Tallies) -> Result<Arc<Self>, QuotaError> {
        let refuse = || QuotaError {
            name: policy.name.clone(),
        };
        let shape = Shape::new(policy.rate, policy.burst).ok_or_else(refuse)?;
        Ok(Arc::new(Self {
            name: policy.name.as_str().into(),
            rate: policy.rate,
            burst: policy.burst,
            on_redis_failure: policy.on_redis_failure,
            max_in_flight: policy.max_in_flight,
            shadow: policy.shadow,
            shape,
            share: shape.share(gateways),
            sizing: LeaseSizing::new(shape, gateways),
            policy_header: policy_item(&policy.name, shape).ok_or_else(refuse)?,
            tally: tallies.of(&policy.name),
        }))
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn rate(&self) -> Rate {
        self.rate
    }

    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// The most concurrent requests of one key, at each gateway.
    pub fn max_in_flight(&self) -> Option<u32> {
        self.max_in_flight
    }

    /// Whether it only counts the requests it would refuse.
    pub fn is_shadow(&self) -> bool {
        self.shadow
    }

    /// Counts a request that was refused because too many others of its key were running.
    pub fn count_too_many_in_flight(&self) {
        self.tally.count_too_many_in_flight();
    }
}

/// One item of `RateLimit-Policy`. `None` if the name is not a structured-field string.
fn policy_item(name: &str, shape: Shape) -> Option<HeaderValue> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if name.is_empty() || !name.bytes().all(plain) {
        return None;
    }
    let window = Duration::from_micros(shape.micros_until(0, shape.capacity));
    let text = format!(
        "\"{name}\";q={};w={}",
        shape.burst(),
        seconds(window).max(1)
    );
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).ok()
}

/// Whole seconds, rounded up.
pub(super) fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
