//! What all requests of a gateway share on their way to the buckets in Redis: one account for each key,
//! and everything that their keepers need.

use std::hash::RandomState;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pingora_limits::rate::Rate;
use quick_cache::sync::Cache;
use tokio::sync::{Notify, oneshot};

use super::breaker::Switch;
use super::lease::{Account, Found};
use super::link::Link;
use super::local::{LocalLimiter, Monotonic};

pub(super) struct Inner {
    pub(super) link: Link,
    pub(super) namespace: Box<str>,
    pub(super) switch: Switch,
    /// Stands in while Redis is away, and knows what it has admitted.
    pub(super) local: LocalLimiter,
    pub(super) accounts: Cache<Vec<u8>, Arc<Key>>,
    /// Which keys are hot. An estimate can only be too high, and then a lease is handed back.
    pub(super) demand: Rate,
    pub(super) hasher: RandomState,
    pub(super) clock: Monotonic,
    pub(super) next_lease: AtomicU64,
    pub(super) leased: AtomicU64,
    pub(super) handed_back: AtomicU64,
}

/// One bucket's account.
pub(super) struct Key {
    pub(super) name: Arc<[u8]>,
    /// Of the name, for the estimate of demand, which hashes it several times for each request.
    pub(super) hash: u64,
    state: Mutex<State>,
    /// Wakes the keeper.
    pub(super) wake: Notify,
}

pub(super) struct State {
    pub(super) account: Account<oneshot::Sender<Told>>,
    pub(super) has_keeper: bool,
}

/// What becomes of somebody who waits.
pub(super) enum Told {
    Found(Found),
    Unreached,
}

impl Key {
    pub(super) fn new(
        name: &[u8],
        hash: u64,
        account: Account<oneshot::Sender<Told>>,
    ) -> Arc<Self> {
        let state = State {
            account,
            has_keeper: false,
        };
        Arc::new(Self {
            name: name.into(),
            hash,
            state: Mutex::new(state),
            wake: Notify::new(),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
