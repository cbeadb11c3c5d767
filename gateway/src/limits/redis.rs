//! Token buckets in Redis, shared by all gateways, and spent here by leases.
//!
//! What a key may spend is in its [`Account`]; a request takes from it without waiting, or is refused
//! by what it knows. Only otherwise it waits for Redis, together with all others of its key: a
//! *keeper*, one task for each key that has a question under way or a lease, asks for them at once,
//! renews the lease before it is spent, and hands it back when nobody uses it any more.
//!
//! Every question has a deadline of its own. While Redis does not answer, the breaker keeps requests
//! away from it, every policy does what its `on_redis_failure` says, and a task in the background
//! tries a fresh connection. What was admitted meanwhile is debited when Redis is back.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use pingora_limits::rate::Rate;
use quick_cache::sync::Cache;
use redis::RedisError;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::breaker::{Breaker, Switch};
use super::counting;
use super::key::BucketKey;
use super::lease::{Account, Found, Question};
use super::leased::{Inner, Key, Told};
use super::link::{Failure, Link, RedisSettings};
use super::local::{Clock, LocalLimiter, Monotonic};
use super::port::{Decision, Leases, Mode, RateLimiter, Snapshot, Status, Take, decision};
use crate::config::FailureMode;

const PROBE_EVERY: Duration = Duration::from_millis(250);
/// Keys whose accounts are kept. Forgetting one loses its lease, and loosens nothing.
const MAX_ACCOUNTS: usize = 65_536;
/// 2 MiB of counts, so that many cold keys do not look like a hot one.
const HASHES: usize = 4;
const SLOTS: usize = 32_768;
/// Debts that are paid in one go, and how long that may take.
const SETTLED_AT_ONCE: usize = 256;
const SETTLED_WITHIN: Duration = Duration::from_secs(1);
/// A ticket may run out while another is waited for; so often a request begins anew.
const ROUNDS: usize = 3;

/// Clones share one connection, one breaker and all leases.
#[derive(Clone)]
pub struct RedisLimiter(pub(super) Arc<Inner>);

/// What one take of a request has come to.
enum Hand {
    Found(Found),
    Waiting(oneshot::Receiver<Told>),
    /// Redis could not be asked.
    Unreached,
}

impl RedisLimiter {
    /// Reads the URL; does no I/O.
    pub fn new(settings: &RedisSettings) -> Result<Self, RedisError> {
        // Other gateways number theirs from elsewhere.
        let (_, first_lease) = uuid::Uuid::now_v7().as_u64_pair();
        Ok(Self(Arc::new(Inner {
            link: Link::new(settings)?,
            namespace: settings.namespace.as_str().into(),
            switch: Switch::default(),
            local: LocalLimiter::of_one_gateway(&settings.namespace),
            accounts: Cache::new(MAX_ACCOUNTS),
            demand: Rate::new_with_estimator_config(Duration::from_secs(1), HASHES, SLOTS),
            hasher: RandomState::new(),
            clock: Monotonic::default(),
            next_lease: AtomicU64::new(first_lease),
            leased: AtomicU64::new(0),
            handed_back: AtomicU64::new(0),
        })))
    }
}

#[async_trait]
impl RateLimiter for RedisLimiter {
    async fn take(&self, takes: &[Take<'_>]) -> Decision {
        let inner = &self.0;
        let keys: Vec<Arc<Key>> = takes.iter().map(|take| inner.key(take)).collect();
        for _ in 0..ROUNDS {
            let mut hands = inner.reach(takes, &keys);
            for hand in &mut hands {
                if let Hand::Waiting(told) = hand {
                    *hand = match told.await {
                        Ok(Told::Found(found)) => Hand::Found(found),
                        Ok(Told::Unreached) | Err(_) => Hand::Unreached,
                    };
                }
            }
            // From here to the decision nothing waits.
            if let Some(decision) = inner.decide(takes, &keys, &hands) {
                return decision;
            }
        }
        inner.without_redis(takes)
    }

    fn status(&self) -> Status {
        let inner = &self.0;
        let breaker = inner.switch.state();
        Status {
            mode: match breaker {
                Breaker::Closed => Mode::Redis,
                Breaker::Open | Breaker::HalfOpen => Mode::Local,
            },
            breaker,
            redis_calls: inner.link.calls(),
            leases: Leases {
                granted: inner.leased.load(Relaxed),
                handed_back: inner.handed_back.load(Relaxed),
            },
        }
    }
}

impl Inner {
    fn key(&self, take: &Take<'_>) -> Arc<Key> {
        let name = BucketKey::new(&self.namespace, take.quota.name(), take.key);
        let key = self.accounts.get(&name[..]).unwrap_or_else(|| {
            let account = Account::new(take.quota.shape, take.quota.terms);
            let key = Key::new(&name, self.hasher.hash_one(&name[..]), account);
            self.accounts.insert(name[..].into(), Arc::clone(&key));
            key
        });
        if take.quota.terms.leases() {
            let cost = isize::try_from(take.cost).unwrap_or(isize::MAX);
            self.demand.observe(&key.hash, cost);
        }
        key
    }

    /// Takes what the accounts have. Unless one of them refuses, joins those who wait for the rest.
    fn reach(self: &Arc<Self>, takes: &[Take<'_>], keys: &[Arc<Key>]) -> Vec<Hand> {
        let now = self.clock.micros();
        let redis = self.switch.state() == Breaker::Closed;
        let mut refused = false;
        let mut hands: Vec<Hand> = Vec::with_capacity(takes.len());
        for (take, key) in takes.iter().zip(keys) {
            if refused {
                // Nothing is taken from those that come behind a refusal.
                hands.push(Hand::Found(Found::Unknown));
                continue;
            }
            let mut state = key.state();
            state.account.follow(take.quota.shape, take.quota.terms);
            let found = state.account.take(take.cost.into(), now);
            refused |= redis && matches!(found, Found::Nothing(_));
            let low = redis && state.account.runs_low(now);
            drop(state);
            if low {
                self.call_keeper(take.quota, key);
            }
            hands.push(match found {
                Found::Unknown | Found::Nothing(_) if !redis => Hand::Unreached,
                found => Hand::Found(found),
            });
        }
        if !refused && redis {
            let alone = takes.len() == 1;
            for ((take, key), hand) in takes.iter().zip(keys).zip(&mut hands) {
                if matches!(hand, Hand::Found(Found::Unknown)) {
                    let (tell, told) = oneshot::channel();
                    key.state().account.wait(take.cost.into(), alone, tell);
                    self.call_keeper(take.quota, key);
                    *hand = Hand::Waiting(told);
                }
            }
        }
        hands
    }

    /// All or nothing. `None` when a ticket has run out meanwhile.
    fn decide(
        self: &Arc<Self>,
        takes: &[Take<'_>],
        keys: &[Arc<Key>],
        hands: &[Hand],
    ) -> Option<Decision> {
        let now = self.clock.micros();
        let good = |hand: &Hand| matches!(hand, Hand::Found(Found::Tokens(t)) if t.is_good(now));
        let admitted = hands.iter().all(good);
        if !admitted {
            for ((take, key), hand) in takes.iter().zip(keys).zip(hands) {
                if let Hand::Found(Found::Tokens(ticket)) = hand {
                    let mut state = key.state();
                    state.account.put_back(*ticket);
                    let over = state.account.is_over();
                    drop(state);
                    if over {
                        self.call_keeper(take.quota, key);
                    }
                }
            }
            if hands.iter().any(|hand| matches!(hand, Hand::Unreached)) {
                return Some(self.without_redis(takes));
            }
        }
        let refused = |hand: &Hand| match hand {
            Hand::Found(Found::Nothing(wait)) => Some(*wait),
            _ => None,
        };
        if !admitted && !hands.iter().any(|hand| refused(hand).is_some()) {
            return None;
        }
        let snapshots = takes
            .iter()
            .zip(keys)
            .zip(hands)
            .map(|((take, key), hand)| {
                let mut state = key.state();
                if let (true, Hand::Found(Found::Tokens(ticket))) = (admitted, hand) {
                    state.account.spend(*ticket);
                }
                let (level, over) = (state.account.level(now), state.account.is_over());
                drop(state);
                if over {
                    self.call_keeper(take.quota, key);
                }
                Snapshot::new(take, take.quota.shape, level, refused(hand))
            });
        let decision = decision(snapshots.collect());
        counting::count(&decision);
        Some(decision)
    }

    pub(super) fn failed(self: &Arc<Self>, failure: &Failure) {
        if self.switch.failed() {
            warn!(
                error = failure as &dyn std::error::Error,
                "redis does not decide any more, limits are local"
            );
            tokio::spawn(probe(Arc::downgrade(self)));
        }
    }

    /// What each policy wants while Redis is away.
    fn without_redis(&self, takes: &[Take<'_>]) -> Decision {
        let wants = |mode| takes.iter().any(|t| t.quota.on_redis_failure == mode);
        if wants(FailureMode::Deny) {
            counting::count_unseen(takes, FailureMode::Deny);
            return Decision::Unavailable;
        }
        let local = |take: &Take<'_>| take.quota.on_redis_failure == FailureMode::Local;
        let decision = self.local.decide(takes.iter().copied().filter(local));
        counting::count(&decision);
        if matches!(decision, Decision::Allowed(_)) {
            counting::count_unseen(takes, FailureMode::Allow);
        }
        decision
    }

    /// Debits in Redis what was admitted without it.
    pub(super) async fn settle(self: &Arc<Self>) -> Result<(), Failure> {
        for debts in self.local.debts().chunks(SETTLED_AT_ONCE) {
            let questions = debts.iter().map(|debt| async {
                let owed = self.local.take_debt(&debt.bucket);
                let question = Question::settlement(owed, debt.shape);
                let bucket = Arc::from(&*debt.bucket);
                let settled = self.put(bucket, question, SETTLED_WITHIN).await;
                if settled.is_err() {
                    self.local.owe(&debt.bucket, owed);
                }
                settled
            });
            // All of them, whatever becomes of one: each puts back what it could not pay.
            let settled = futures_util::future::join_all(questions).await;
            settled.into_iter().try_for_each(|one| one.map(drop))?;
        }
        Ok(())
    }
}

/// Tries a fresh connection until one works, or the limiter is gone.
async fn probe(inner: Weak<Inner>) {
    loop {
        sleep(PROBE_EVERY).await;
        let Some(inner) = inner.upgrade() else { return };
        inner.switch.half_open();
        let bucket = BucketKey::new(&inner.namespace, "_", b"probe");
        let back = match inner.link.connect(&bucket).await {
            // First what is known to be owed; who admits meanwhile pays with the key's next question.
            Ok(()) => inner.settle().await,
            Err(failure) => Err(failure),
        };
        match back {
            Ok(()) => {
                inner.switch.close();
                info!("redis decides again");
                if let Err(failure) = inner.settle().await {
                    debug!(error = &failure as &dyn std::error::Error, "debts are left");
                }
                return;
            }
            Err(failure) => {
                inner.switch.reopen();
                debug!(
                    error = &failure as &dyn std::error::Error,
                    "redis is still away"
                );
            }
        }
    }
}
