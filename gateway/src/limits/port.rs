//! The port: what a limiter is asked, and what it answers.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::breaker::BreakerState;
use super::bucket::Shape;
use super::quota::Quota;

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
/// unseen while Redis is away (`on_redis_failure: allow`) has none.
#[derive(Debug, Clone)]
pub enum Decision {
    Allowed(Vec<Snapshot>),
    /// At least one snapshot has a `retry_after`.
    Limited(Vec<Snapshot>),
    /// Nobody can decide, and a policy wants to be safe (`on_redis_failure: deny`).
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
    pub(super) fn new(take: &Take<'_>, shape: Shape, level: u64, wait: Option<u64>) -> Self {
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
pub(super) fn decision(snapshots: Vec<Snapshot>) -> Decision {
    if snapshots.iter().any(|s| s.retry_after.is_some()) {
        Decision::Limited(snapshots)
    } else {
        Decision::Allowed(snapshots)
    }
}

/// How the limiter is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    pub mode: Mode,
    pub breaker: BreakerState,
    pub redis_calls: RedisCalls,
    pub leases: LeasedTokens,
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
pub struct LeasedTokens {
    pub granted: u64,
    /// Unspent, and given back because nobody needed them.
    pub handed_back: u64,
}
