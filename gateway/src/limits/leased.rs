//! The leased buckets of one gateway, and what their requests and renewers share.

use std::hash::RandomState;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pingora_limits::rate::Rate;
use quick_cache::sync::Cache;
use tokio::sync::{Notify, oneshot};

use super::breaker::Breaker;
use super::client::BucketClient;
use super::lease::{Account, ReserveResult};
use super::local::{LocalLimiter, Monotonic};

pub(super) struct LeasedBuckets {
    pub(super) client: BucketClient,
    pub(super) namespace: Box<str>,
    pub(super) breaker: Breaker,
    /// Decides while Redis is away, and records what it admitted meanwhile.
    pub(super) local: LocalLimiter,
    pub(super) buckets: Cache<Vec<u8>, Arc<LeasedBucket>>,
    /// Estimates which buckets are hot. An estimate can only be too high; the surplus lease is then
    /// handed back.
    pub(super) demand: Rate,
    pub(super) hasher: RandomState,
    pub(super) clock: Monotonic,
    pub(super) next_lease: AtomicU64,
    pub(super) leased: AtomicU64,
    pub(super) handed_back: AtomicU64,
}

/// One bucket: this gateway's account on it, and whether a renewer runs for it.
pub(super) struct LeasedBucket {
    pub(super) name: Arc<[u8]>,
    /// The hash of the name. The demand estimate hashes its key several times per request; hashing
    /// this is cheaper than hashing the name.
    pub(super) hash: u64,
    state: Mutex<LeasedState>,
    /// Wakes the renewer.
    pub(super) wake: Notify,
}

pub(super) struct LeasedState {
    pub(super) account: Account<oneshot::Sender<Reply>>,
    pub(super) has_renewer: bool,
}

/// What a waiting request is sent.
pub(super) enum Reply {
    Answered(ReserveResult),
    Unreachable,
}

impl LeasedBucket {
    pub(super) fn new(
        name: &[u8],
        hash: u64,
        account: Account<oneshot::Sender<Reply>>,
    ) -> Arc<Self> {
        let state = LeasedState {
            account,
            has_renewer: false,
        };
        Arc::new(Self {
            name: name.into(),
            hash,
            state: Mutex::new(state),
            wake: Notify::new(),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, LeasedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
