//! Exact token buckets inside this process.
//!
//! The embedded adapter, and what stands in while Redis is away. Memory is bounded: only a full
//! bucket is forgotten (it equals a new one). When a shard holds no full bucket, further keys of a
//! policy share one bucket there, and a key that gets its own later starts with what that one had
//! left. So a flood of keys can make limits tighter, never looser.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;

use super::bucket::{Bucket, Outcome, Shape};
use super::key::BucketKey;
use super::{
    Breaker, Decision, Mode, Quota, RateLimiter, RedisCalls, Snapshot, Status, Take, decision,
    tally,
};

const SHARDS: usize = 64;
/// About 10 MiB of buckets.
const MAX_BUCKETS: usize = 65_536;
/// A full shard looks for full buckets at most this often.
const SWEEP_EVERY_MICROS: u64 = 10_000;

/// Monotonic time; tests turn it by hand.
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

/// Which part of a quota this process may admit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    /// Rate and burst divided by the number of gateways.
    OneGateway,
}

impl Part {
    fn of(self, quota: &Quota) -> Shape {
        match self {
            Self::Whole => quota.shape,
            Self::OneGateway => quota.share,
        }
    }
}

pub struct LocalLimiter {
    shards: Box<[Mutex<Shard>]>,
    shard_capacity: usize,
    hasher: RandomState,
    part: Part,
    clock: Arc<dyn Clock>,
}

impl Default for LocalLimiter {
    fn default() -> Self {
        Self::new(Part::Whole, Arc::new(Monotonic::default()), MAX_BUCKETS)
    }
}

impl LocalLimiter {
    /// The stand-in for Redis: this gateway's part of every quota.
    pub(super) fn of_one_gateway() -> Self {
        Self::new(
            Part::OneGateway,
            Arc::new(Monotonic::default()),
            MAX_BUCKETS,
        )
    }

    pub(super) fn new(part: Part, clock: Arc<dyn Clock>, max_buckets: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            shard_capacity: (max_buckets / SHARDS).max(1),
            hasher: RandomState::new(),
            part,
            clock,
        }
    }

    /// Decides without counting.
    pub(super) fn decide<'a>(&self, takes: impl Iterator<Item = Take<'a>> + Clone) -> Decision {
        let now = self.clock.micros();
        let mut refused = false;
        let mut snapshots: Vec<Snapshot> = takes
            .clone()
            .map(|take| {
                let shape = self.part.of(take.quota);
                let outcome = self.with_shard(take, |shard, key| {
                    shard.take(key, take.quota.name(), shape, now, self.shard_capacity)
                });
                refused |= !outcome.admitted;
                Snapshot::new(take.quota, shape, outcome)
            })
            .collect();
        if refused && snapshots.len() > 1 {
            for (take, snapshot) in takes.zip(&mut snapshots) {
                if snapshot.retry_after.is_none() {
                    let shape = self.part.of(take.quota);
                    self.with_shard(take, |shard, key| {
                        shard.give_back(key, take.quota.name(), shape)
                    });
                    snapshot.remaining += 1;
                }
            }
        }
        decision(snapshots)
    }

    /// Takes over what Redis has just said of a bucket, so that standing in for it starts from there
    /// and not from a full one. The level in Redis is, in this gateway's dearer tokens, its part.
    pub(super) fn observe(&self, take: Take<'_>, level: u64) {
        let shape = self.part.of(take.quota);
        let bucket = Bucket::with_level(level.min(shape.capacity), self.clock.micros());
        self.with_shard(take, |shard, key| {
            shard.observe(key, Entry { bucket, shape }, self.shard_capacity)
        });
    }

    fn with_shard<T>(&self, take: Take<'_>, act: impl FnOnce(&mut Shard, &[u8]) -> T) -> T {
        let key = BucketKey::new("", take.quota.name(), take.key);
        let hash = self.hasher.hash_one(&*key);
        let shard = &self.shards[hash as usize % SHARDS];
        act(
            &mut shard.lock().unwrap_or_else(PoisonError::into_inner),
            &key,
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
        tally::count(&decision);
        decision
    }

    fn status(&self) -> Status {
        Status {
            mode: Mode::Local,
            breaker: Breaker::Closed,
            redis_calls: RedisCalls::default(),
        }
    }
}

#[derive(Default)]
struct Shard {
    buckets: HashMap<Box<[u8]>, Entry>,
    /// By policy: the bucket of all keys that found no room.
    shared: HashMap<Box<str>, Entry>,
    sweep_at: u64,
}

struct Entry {
    bucket: Bucket,
    /// Kept because a reload may change the policy's.
    shape: Shape,
}

impl Entry {
    fn bucket(&mut self, shape: Shape) -> &mut Bucket {
        if self.shape != shape {
            self.bucket.reshape(self.shape, shape);
            self.shape = shape;
        }
        &mut self.bucket
    }
}

impl Shard {
    fn take(&mut self, key: &[u8], policy: &str, shape: Shape, now: u64, room: usize) -> Outcome {
        if let Some(entry) = self.buckets.get_mut(key) {
            return entry.bucket(shape).take(shape, now);
        }
        if self.buckets.len() >= room {
            self.forget_full_ones(now);
        }
        // Invariant: whoever may have spent from the shared bucket does not start with more.
        let level = match self.shared.get_mut(policy) {
            Some(shared) => shared.bucket(shape).level_at(shape, now),
            None => shape.capacity,
        };
        let mut bucket = Bucket::with_level(level, now);
        let outcome = bucket.take(shape, now);
        let entry = Entry { bucket, shape };
        if self.buckets.len() < room {
            self.buckets.insert(key.into(), entry);
        } else {
            self.shared.insert(policy.into(), entry);
        }
        outcome
    }

    fn observe(&mut self, key: &[u8], entry: Entry, room: usize) {
        if let Some(known) = self.buckets.get_mut(key) {
            *known = entry;
            return;
        }
        if self.buckets.len() >= room {
            self.forget_full_ones(entry.bucket.at());
        }
        if self.buckets.len() < room {
            self.buckets.insert(key.into(), entry);
        }
    }

    fn give_back(&mut self, key: &[u8], policy: &str, shape: Shape) {
        let entry = match self.buckets.get_mut(key) {
            Some(entry) => Some(entry),
            None => self.shared.get_mut(policy),
        };
        if let Some(entry) = entry {
            entry.bucket(shape).give_back(shape);
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
