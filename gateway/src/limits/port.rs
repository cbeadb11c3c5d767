//! The port of the rate limiters: their trait, its arguments and its results.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::breaker::BreakerState;
use super::bucket::Shape;
use super::quota::Quota;

/// Decides about requests and counts the decisions.
#[async_trait]
pub trait RateLimiter: Send + Sync {
    /// Takes the tokens of all `takes`, or no token at all.
    async fn take(&self, takes: &[Take<'_>]) -> Decision;

    /// For `/status` and the metrics.
    fn status(&self) -> Status;
}

/// Tokens to be taken from the bucket of one key.
#[derive(Debug, Clone, Copy)]
pub struct Take<'a> {
    pub quota: &'a Arc<Quota>,
    /// The user id, the bytes of the network address, or nothing for a global policy.
    pub key: &'a [u8],
    /// How many tokens: at least one, at most the quota's burst.
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

/// The decision about a request. The snapshots are in the order of the takes. A policy that admits
/// without a check while Redis is away (`on_redis_failure: allow`) has none.
#[derive(Debug, Clone)]
pub enum Decision {
    Allowed(Vec<Snapshot>),
    /// At least one snapshot has a `retry_after`.
    Limited(Vec<Snapshot>),
    /// Redis is away, and a policy then refuses (`on_redis_failure: deny`).
    Unavailable,
}

/// The state of one bucket, as reported to the client.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub quota: Arc<Quota>,
    /// Whole tokens that are left.
    pub remaining: u64,
    /// The time until there is one more token; zero for a full bucket.
    pub next: Duration,
    /// Set if this quota refused. A client that is the only one of its key is admitted after this time.
    pub retry_after: Option<Duration>,
}

impl Snapshot {
    /// The snapshot of a bucket with `level` units, which refuses for `wait` microseconds or not at all.
    pub(super) fn new(take: &Take<'_>, shape: Shape, level: u64, wait: Option<u64>) -> Self {
        let left = level / shape.token;
        let next = if level < shape.capacity {
            shape.micros_until(level, shape.units(left + 1))
        } else {
            0
        };
        // A refusal reports fewer tokens than the cost. The level may be higher, because a bucket that is
        // nearly empty is not asked again at once.
        let too_few = u64::from(take.cost) - 1;
        Self {
            quota: Arc::clone(take.quota),
            remaining: wait.map_or(left, |_| left.min(too_few)),
            next: Duration::from_micros(wait.unwrap_or(next)),
            retry_after: wait.map(Duration::from_micros),
        }
    }
}

/// Combines the snapshots of one request into one decision.
pub(super) fn decision(snapshots: Vec<Snapshot>) -> Decision {
    if snapshots.iter().any(|s| s.retry_after.is_some()) {
        Decision::Limited(snapshots)
    } else {
        Decision::Allowed(snapshots)
    }
}

/// The state of the limiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    pub mode: Mode,
    pub breaker: BreakerState,
    pub redis_calls: RedisCalls,
    pub leases: LeasedTokens,
}

/// Where decisions are made at the moment.
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
    /// Refused by Redis, interrupted, or too late.
    pub failed: u64,
}

/// Tokens leased from Redis since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeasedTokens {
    pub granted: u64,
    /// Handed back unspent, because no request needed them.
    pub handed_back: u64,
}
