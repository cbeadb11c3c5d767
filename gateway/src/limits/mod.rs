//! Rate limits: how often a key may pass.
//!
//! A request is measured against every [`Quota`] that applies to it; it passes when each of them
//! has the tokens it costs, and a refusal by one takes nothing from the others. The port is
//! [`RateLimiter`]; its adapters are [`RedisLimiter`] (one bucket per key for all gateways, on Redis'
//! clock, spent by leases) and [`LocalLimiter`] (this process only; also what stands in while Redis
//! is away). Admission calls `take`, and renders the answer with [`headers`]. Why it is exact:
//! docs/why-strict-leases.md.
//!
//! Nothing here may answer an error because of Redis, wait for it longer than the deadline, or
//! admit more than burst + rate·t where Redis can be reached.

mod breaker;
mod bucket;
pub mod headers;
mod in_flight;
mod keeper;
mod key;
mod lease;
mod link;
mod local;
mod redis;
mod server;
mod tally;
mod terms;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderValue;

use crate::config::{FailureMode, Policy, Rate};
use bucket::Shape;
use terms::Terms;

pub use breaker::Breaker;
pub use in_flight::{InFlight, Slot};
pub use local::{Clock, LocalLimiter, Monotonic};
pub use redis::{RedisLimiter, RedisSettings};
pub use tally::{Tallies, Tally, TallySnapshot};

/// Decides about requests, and counts what it decided.
#[async_trait]
pub trait RateLimiter: Send + Sync {
    /// Takes the tokens of all `takes`, or none at all.
    async fn take(&self, takes: &[Take<'_>]) -> Decision;

    /// For `/status` and the metrics.
    fn status(&self) -> Status;
}

/// Tokens of one key's bucket.
#[derive(Debug, Clone, Copy)]
pub struct Take<'a> {
    pub quota: &'a Arc<Quota>,
    /// The user id, the address in text, or nothing for a global policy.
    pub key: &'a [u8],
    /// How many; at least one, and no more than the quota's burst.
    pub cost: u32,
}

impl<'a> Take<'a> {
    /// One token.
    pub fn new(quota: &'a Arc<Quota>, key: &'a [u8]) -> Self {
        Self {
            quota,
            key,
            cost: 1,
        }
    }

    pub fn costing(self, cost: u32) -> Self {
        Self { cost, ..self }
    }
}

/// What became of a request. The snapshots stand in the order of the takes; a policy that admits
/// unseen while Redis is away ([`FailureMode::Allow`]) has none.
#[derive(Debug, Clone)]
pub enum Decision {
    Allowed(Vec<Snapshot>),
    /// At least one snapshot has a `retry_after`.
    Limited(Vec<Snapshot>),
    /// Nobody can decide, and a policy wants to be safe ([`FailureMode::Deny`]).
    Unavailable,
}

/// One bucket as the client may know it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub quota: Arc<Quota>,
    /// Whole tokens that are left.
    pub remaining: u64,
    /// Until there is one token more; zero for a full bucket.
    pub next: Duration,
    /// Set when this quota refused: a client that is alone on its key and waits that long passes.
    pub retry_after: Option<Duration>,
}

impl Snapshot {
    /// Of a bucket that holds `level` units, and refuses for `wait` microseconds or not at all.
    fn new(take: &Take<'_>, shape: Shape, level: u64, wait: Option<u64>) -> Self {
        let left = level / shape.token;
        let next = if level < shape.capacity {
            shape.micros_until(level, shape.units(left + 1))
        } else {
            0
        };
        // Few tokens may be there and none for the asking: who is refused has not what he needs.
        let too_few = u64::from(take.cost) - 1;
        Self {
            quota: Arc::clone(take.quota),
            remaining: wait.map_or(left, |_| left.min(too_few)),
            next: Duration::from_micros(wait.unwrap_or(next)),
            retry_after: wait.map(Duration::from_micros),
        }
    }
}

/// All outcomes of one request as one decision.
fn decision(snapshots: Vec<Snapshot>) -> Decision {
    if snapshots.iter().any(|s| s.retry_after.is_some()) {
        Decision::Limited(snapshots)
    } else {
        Decision::Allowed(snapshots)
    }
}

/// One policy, ready to be enforced: its numbers checked and its header text built.
#[derive(Debug)]
pub struct Quota {
    name: Box<str>,
    rate: Rate,
    burst: u32,
    on_redis_failure: FailureMode,
    max_in_flight: Option<u32>,
    shadow: bool,
    /// Everybody's bucket.
    shape: Shape,
    /// This gateway's part of it.
    share: Shape,
    /// How it is leased to this gateway.
    terms: Terms,
    policy_header: HeaderValue,
    tally: Arc<Tally>,
}

/// The numbers of a policy that no bucket can hold.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the policy `{name}` cannot be counted exactly: lower its burst")]
pub struct QuotaError {
    name: String,
}

impl Quota {
    /// Its counters are those of the same name in `tallies`, so that they survive a reload.
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
            terms: Terms::new(shape, gateways),
            policy_header: headers::policy_item(&policy.name, shape).ok_or_else(refuse)?,
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

    /// Requests of one key at one time, at each gateway.
    pub fn max_in_flight(&self) -> Option<u32> {
        self.max_in_flight
    }

    /// Whether it only counts what it would refuse.
    pub fn is_shadow(&self) -> bool {
        self.shadow
    }

    /// Counts a request that had too many others beside it.
    pub fn count_crowded(&self) {
        self.tally.crowded();
    }
}

/// How the limiter is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    pub mode: Mode,
    pub breaker: Breaker,
    pub redis_calls: RedisCalls,
    pub leases: Leases,
}

/// Who decides at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Redis,
    Local,
}

impl Mode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Local => "local",
        }
    }
}

/// Commands sent to Redis since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RedisCalls {
    pub answered: u64,
    /// Refused by Redis, broken off, or too late.
    pub failed: u64,
}

/// Tokens leased from Redis since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leases {
    pub granted: u64,
    /// Unspent, and given back because nobody needed them.
    pub handed_back: u64,
}
