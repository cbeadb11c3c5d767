//! Exact token buckets inside this process.
//!
//! This limiter is used without Redis, and as the fallback while Redis is away. Memory is bounded. Only
//! full buckets are forgotten, because a full bucket equals a new one. When a shard is at capacity and
//! has no full bucket, further keys of a policy share one bucket there. A key that gets its own bucket
//! later starts with the level of the shared one. So a flood of keys can make limits tighter, but never
//! looser.
//!
//! As the fallback for Redis, it also records the tokens that it admits as debts, until Redis has been
//! debited for them. A bucket owes no more than it lacks, because the bucket in Redis has refilled in
//! the same time. Requests admitted from a shared bucket leave no debt.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;

use super::breaker::BreakerState;
use super::bucket::{Bucket, Shape, TakeResult};
use super::counting;
use super::key::BucketKey;
use super::port::{
    Decision, LeasedTokens, Mode, RateLimiter, RedisCalls, Snapshot, Status, Take, decision,
};
use super::quota::Quota;

const SHARDS: usize = 64;
/// About 10 MiB.
const MAX_BUCKETS: usize = 65_536;
/// A shard at capacity looks for full buckets at most this often.
const SWEEP_EVERY_MICROS: u64 = 10_000;

/// Monotonic time. Tests advance it by hand.
pub trait Clock: Send + Sync {
    fn micros(&self) -> u64;
}

/// The machine's monotonic clock.
#[derive(Debug)]
pub struct Monotonic(Instant);

impl Default for Monotonic {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for Monotonic {
    fn micros(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// How much of a quota this process may admit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    Whole,
    /// Rate and burst divided by the number of gateways.
    PerGateway,
}

impl Share {
    fn of(self, quota: &Quota) -> Shape {
        match self {
            Self::Whole => quota.shape,
            Self::PerGateway => quota.share,
        }
    }
}

pub struct LocalLimiter {
    namespace: Box<str>,
    shards: Box<[Mutex<Shard>]>,
    shard_capacity: usize,
    hasher: RandomState,
    share: Share,
    clock: Arc<dyn Clock>,
}

impl Default for LocalLimiter {
    fn default() -> Self {
        let clock = Arc::new(Monotonic::default());
        Self::new("", Share::Whole, clock, MAX_BUCKETS)
    }
}

impl LocalLimiter {
    /// The fallback for Redis, which admits this gateway's share of every quota.
    pub(super) fn per_gateway(namespace: &str) -> Self {
        let clock = Arc::new(Monotonic::default());
        Self::new(namespace, Share::PerGateway, clock, MAX_BUCKETS)
    }

    pub(super) fn new(
        namespace: &str,
        share: Share,
        clock: Arc<dyn Clock>,
        max_buckets: usize,
    ) -> Self {
        Self {
            namespace: namespace.into(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            shard_capacity: (max_buckets / SHARDS).max(1),
            hasher: RandomState::new(),
            share,
            clock,
        }
    }

    /// Decides without counting the decision.
    pub(super) fn decide<'a>(&self, takes: impl Iterator<Item = Take<'a>> + Clone) -> Decision {
        let now = self.clock.micros();
        let mut refused = false;
        let results: Vec<TakeResult> = takes
            .clone()
            .map(|take| {
                let result = self.with_shard(&self.bucket(&take), |shard, key| {
                    shard.take(
                        key,
                        &take,
                        self.share.of(take.quota),
                        now,
                        self.shard_capacity,
                    )
                });
                refused |= !result.admitted;
                result
            })
            .collect();
        let snapshots = takes.zip(results).map(|(take, mut result)| {
            let shape = self.share.of(take.quota);
            if refused && result.admitted {
                self.with_shard(&self.bucket(&take), |shard, key| {
                    shard.give_back(key, &take, shape)
                });
                result.level += shape.units(take.cost.into());
            }
            let wait = shape.micros_until(result.level, shape.units(take.cost.into()));
            Snapshot::new(
                &take,
                shape,
                result.level,
                (!result.admitted).then_some(wait),
            )
        });
        decision(snapshots.collect())
    }

    /// Adopts the level that Redis last reported for a bucket, so that the fallback starts from it and not
    /// from a full bucket. The units need no conversion: a token of this gateway's share costs more
    /// units, so the same level is its share.
    pub(super) fn adopt_level(&self, quota: &Quota, bucket: &[u8], level: u64) {
        let shape = self.share.of(quota);
        let now = self.clock.micros();
        let entry = TrackedBucket::new(quota, shape, level.min(shape.capacity), now);
        self.with_shard(bucket, |shard, key| {
            shard.adopt_level(key, entry, now, self.shard_capacity)
        });
    }

    /// All debts.
    pub(super) fn debts(&self) -> Vec<Debt> {
        let mut debts = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let owing = shard.buckets.iter().filter(|(_, entry)| entry.debt > 0);
            debts.extend(owing.map(|(bucket, entry)| Debt {
                bucket: bucket.clone(),
                shape: entry.whole,
            }));
        }
        debts
    }

    /// Takes the debt of a bucket. The caller pays it, or restores it with [`owe`](Self::owe). The debt is
    /// at most what the bucket lacks, because the bucket in Redis has refilled in the same time.
    pub(super) fn take_debt(&self, bucket: &[u8]) -> u64 {
        let now = self.clock.micros();
        self.with_entry(bucket, |entry| {
            let lacks = entry.shape.capacity - entry.bucket.level_at(entry.shape, now);
            std::mem::take(&mut entry.debt).min(lacks.div_ceil(entry.shape.token))
        })
        .unwrap_or(0)
    }

    pub(super) fn owe(&self, bucket: &[u8], tokens: u64) {
        if tokens > 0 {
            self.with_entry(bucket, |entry| entry.debt += tokens);
        }
    }

    /// Reduces a debt that was partly paid in another way.
    pub(super) fn repay(&self, bucket: &[u8], tokens: u64) {
        self.with_entry(bucket, |entry| {
            entry.debt = entry.debt.saturating_sub(tokens);
        });
    }

    fn with_entry<T>(&self, bucket: &[u8], act: impl FnOnce(&mut TrackedBucket) -> T) -> Option<T> {
        self.with_shard(bucket, |shard, key| shard.buckets.get_mut(key).map(act))
    }

    fn bucket(&self, take: &Take<'_>) -> BucketKey {
        BucketKey::new(&self.namespace, take.quota.name(), take.key)
    }

    fn with_shard<T>(&self, bucket: &[u8], act: impl FnOnce(&mut Shard, &[u8]) -> T) -> T {
        let hash = self.hasher.hash_one(bucket);
        let shard = &self.shards[hash as usize % SHARDS];
        act(
            &mut shard.lock().unwrap_or_else(PoisonError::into_inner),
            bucket,
        )
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let count = |shard: &Mutex<Shard>| shard.lock().unwrap().buckets.len();
        self.shards.iter().map(count).sum()
    }
}

#[async_trait]
impl RateLimiter for LocalLimiter {
    async fn take(&self, takes: &[Take<'_>]) -> Decision {
        let decision = self.decide(takes.iter().copied());
        counting::count(&decision);
        decision
    }

    fn status(&self) -> Status {
        Status {
            mode: Mode::Local,
            breaker: BreakerState::Closed,
            redis_calls: RedisCalls::default(),
            leases: LeasedTokens::default(),
        }
    }
}

#[derive(Default)]
struct Shard {
    buckets: HashMap<Box<[u8]>, TrackedBucket>,
    /// By policy: the bucket that keys share when there is no room for their own.
    shared: HashMap<Box<str>, TrackedBucket>,
    sweep_at: u64,
}

struct TrackedBucket {
    bucket: Bucket,
    /// The shape at the last take. A reload may change the policy's shape.
    shape: Shape,
    /// The shape of the bucket in Redis, of which this is a share.
    whole: Shape,
    /// Tokens admitted here for which Redis has not been debited.
    debt: u64,
}

/// A bucket that owes tokens to Redis.
pub(super) struct Debt {
    pub(super) bucket: Box<[u8]>,
    pub(super) shape: Shape,
}

impl TrackedBucket {
    fn new(quota: &Quota, shape: Shape, level: u64, now: u64) -> Self {
        Self {
            bucket: Bucket::with_level(level, now),
            shape,
            whole: quota.shape,
            debt: 0,
        }
    }

    fn bucket(&mut self, shape: Shape) -> &mut Bucket {
        if self.shape != shape {
            self.bucket.reshape(self.shape, shape);
            self.shape = shape;
        }
        &mut self.bucket
    }

    fn take(&mut self, take: &Take<'_>, shape: Shape, now: u64) -> TakeResult {
        let result = self.bucket(shape).take(shape, take.cost, now);
        if result.admitted {
            self.debt += u64::from(take.cost);
            self.whole = take.quota.shape;
        }
        result
    }
}

impl Shard {
    fn take(
        &mut self,
        key: &[u8],
        take: &Take<'_>,
        shape: Shape,
        now: u64,
        room: usize,
    ) -> TakeResult {
        if let Some(entry) = self.buckets.get_mut(key) {
            return entry.take(take, shape, now);
        }
        if self.buckets.len() >= room {
            self.forget_full_ones(now);
        }
        // Invariant: a key that may have spent from the shared bucket starts with no more than it has.
        let policy = take.quota.name();
        let level = match self.shared.get_mut(policy) {
            Some(shared) => shared.bucket(shape).level_at(shape, now),
            None => shape.capacity,
        };
        let mut entry = TrackedBucket::new(take.quota, shape, level, now);
        let result = entry.take(take, shape, now);
        if self.buckets.len() < room {
            self.buckets.insert(key.into(), entry);
        } else {
            self.shared.insert(policy.into(), entry);
        }
        result
    }

    fn adopt_level(&mut self, key: &[u8], mut entry: TrackedBucket, now: u64, room: usize) {
        if let Some(known) = self.buckets.get_mut(key) {
            entry.debt = known.debt;
            *known = entry;
            return;
        }
        if self.buckets.len() >= room {
            self.forget_full_ones(now);
        }
        if self.buckets.len() < room {
            self.buckets.insert(key.into(), entry);
        }
    }

    fn give_back(&mut self, key: &[u8], take: &Take<'_>, shape: Shape) {
        let entry = match self.buckets.get_mut(key) {
            Some(entry) => Some(entry),
            None => self.shared.get_mut(take.quota.name()),
        };
        if let Some(entry) = entry {
            entry.bucket(shape).give_back(shape, take.cost);
            entry.debt = entry.debt.saturating_sub(take.cost.into());
        }
    }

    fn forget_full_ones(&mut self, now: u64) {
        if now >= self.sweep_at {
            self.sweep_at = now + SWEEP_EVERY_MICROS;
            self.buckets
                .retain(|_, entry| now < entry.bucket.full_at(entry.shape));
        }
    }
}
