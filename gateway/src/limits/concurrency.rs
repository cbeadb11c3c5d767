//! Limits how many requests of one key run at the same time. The count is exact.
//!
//! A permit is held from admission until the request ends. Keys without a running request are
//! forgotten, so memory is bounded by the number of running requests. Each gateway counts only its own.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use super::key::BucketKey;
use super::port::Take;

const SHARDS: usize = 64;

type Counts = HashMap<Box<[u8]>, u32>;

/// The number of running requests of every key.
#[derive(Debug)]
pub struct ConcurrencyLimiter {
    shards: Box<[Mutex<Counts>]>,
    hasher: RandomState,
}

impl Default for ConcurrencyLimiter {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }
}

/// Counts one request among those of its key until it is dropped.
#[derive(Debug)]
pub struct ConcurrencyPermit {
    limiter: Arc<ConcurrencyLimiter>,
    key: Box<[u8]>,
}

impl ConcurrencyLimiter {
    /// `None` when `max` requests of this key are already running.
    pub fn acquire(self: &Arc<Self>, take: &Take<'_>, max: u32) -> Option<ConcurrencyPermit> {
        let key = BucketKey::new("", take.quota.name(), take.key);
        let acquired = self.with_shard(&key, |counts| match counts.get_mut(&key[..]) {
            Some(count) if *count >= max => false,
            Some(count) => {
                *count += 1;
                true
            }
            None => {
                counts.insert(key[..].into(), 1);
                true
            }
        });
        acquired.then(|| ConcurrencyPermit {
            limiter: Arc::clone(self),
            key: key[..].into(),
        })
    }

    fn with_shard<T>(&self, key: &[u8], act: impl FnOnce(&mut Counts) -> T) -> T {
        let shard = &self.shards[self.hasher.hash_one(key) as usize % SHARDS];
        act(&mut shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> usize {
        let count = |shard: &Mutex<HashMap<_, _>>| shard.lock().unwrap().len();
        self.shards.iter().map(count).sum()
    }
}

impl Drop for ConcurrencyPermit {
    fn drop(&mut self) {
        self.limiter.with_shard(&self.key, |counts| {
            if let Some(count) = counts.get_mut(&self.key) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&self.key);
                }
            }
        });
    }
}
