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

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use pingora_limits::rate::{Rate, RateComponents};
use quick_cache::sync::Cache;
use redis::RedisError;
use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::breaker::{Breaker, Switch};
use super::key::BucketKey;
use super::lease::{Account, Answer, Found, Question};
use super::link::{Failure, Link};
use super::local::{Clock, LocalLimiter, Monotonic};
use super::{Decision, Leases, Mode, Quota, RateLimiter, Snapshot, Status, Take, decision, tally};
use crate::config::FailureMode;

const PROBE_EVERY: Duration = Duration::from_millis(250);
/// An answer that comes later than this is not waited for.
const LATEST_ANSWER: Duration = Duration::from_secs(30);
/// Keys whose accounts are kept; about 25 MiB. Forgetting one loses its lease, and loosens nothing.
const MAX_ACCOUNTS: usize = 65_536;
/// Debts that are paid in one go.
const SETTLED_AT_ONCE: usize = 256;
/// A ticket may run out while another is waited for; so often a request begins anew.
const ROUNDS: usize = 3;

/// Where the buckets are. No `Debug`: the URL may hold a password.
#[derive(Clone)]
pub struct RedisSettings {
    /// `redis://user:password@host:port/database`, or `rediss://`; `redis-sentinel://host,host/master`
    /// and `redis-cluster://host,host`.
    pub url: String,
    /// For one question. A request may wait for one that is under way, and for the next.
    pub deadline: Duration,
    /// Begins every key.
    pub namespace: String,
}

/// Clones share one connection, one breaker and all leases.
#[derive(Clone)]
pub struct RedisLimiter(Arc<Inner>);

struct Inner {
    link: Link,
    namespace: Box<str>,
    switch: Switch,
    /// Stands in while Redis is away, and knows what it has admitted.
    local: LocalLimiter,
    accounts: Cache<Vec<u8>, Arc<Key>>,
    /// Which keys are hot. An estimate can only be too high, and then a lease is handed back.
    demand: Rate,
    clock: Monotonic,
    next_lease: AtomicU64,
    leased: AtomicU64,
    handed_back: AtomicU64,
}

/// One bucket's account.
struct Key {
    name: Box<[u8]>,
    state: Mutex<State>,
    /// Wakes the keeper.
    wake: Notify,
}

struct State {
    account: Account<oneshot::Sender<Told>>,
    has_keeper: bool,
}

/// What becomes of somebody who waits.
enum Told {
    Found(Found),
    Unreached,
}

/// What one take of a request has come to.
enum Hand {
    Found(Found),
    Waiting(oneshot::Receiver<Told>),
    /// Redis could not be asked.
    Unreached,
}

impl Key {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
            demand: Rate::new(Duration::from_secs(1)),
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
            let key = Arc::new(Key {
                name: name[..].into(),
                state: Mutex::new(State {
                    account: Account::new(take.quota.shape, take.quota.terms),
                    has_keeper: false,
                }),
                wake: Notify::new(),
            });
            self.accounts.insert(name[..].into(), Arc::clone(&key));
            key
        });
        if take.quota.terms.leases() {
            let cost = isize::try_from(take.cost).unwrap_or(isize::MAX);
            self.demand.observe(&key.name, cost);
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
    fn decide(&self, takes: &[Take<'_>], keys: &[Arc<Key>], hands: &[Hand]) -> Option<Decision> {
        let now = self.clock.micros();
        let good = |hand: &Hand| matches!(hand, Hand::Found(Found::Tokens(t)) if t.is_good(now));
        let admitted = hands.iter().all(good);
        if !admitted {
            for (key, hand) in keys.iter().zip(hands) {
                if let Hand::Found(Found::Tokens(ticket)) = hand {
                    key.state().account.put_back(*ticket);
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
                let level = key.state().account.level(now);
                Snapshot::new(take, take.quota.shape, level, refused(hand))
            });
        let decision = decision(snapshots.collect());
        tally::count(&decision);
        Some(decision)
    }

    fn call_keeper(self: &Arc<Self>, quota: &Arc<Quota>, key: &Arc<Key>) {
        if std::mem::replace(&mut key.state().has_keeper, true) {
            key.wake.notify_one();
        } else {
            tokio::spawn(keep(Arc::clone(self), Arc::clone(quota), Arc::clone(key)));
        }
    }

    /// Puts a question about one key, under its deadline.
    async fn put(
        self: &Arc<Self>,
        quota: &Arc<Quota>,
        key: &Arc<Key>,
        question: Question,
    ) -> Result<Answer, Failure> {
        let (inner, asked, quota) = (Arc::clone(self), Arc::clone(key), Arc::clone(quota));
        let debt = question.debt;
        let mut call =
            Box::pin(async move { inner.link.ask(&asked.name, quota.shape, &question).await });
        match timeout(self.link.deadline, &mut call).await {
            Ok(answer) => answer,
            Err(late) => {
                self.link.given_up();
                // What a late answer has debited pays for what is admitted without it.
                let (inner, key) = (Arc::clone(self), Arc::clone(key));
                tokio::spawn(async move {
                    if let Ok(Ok(answer)) = timeout(LATEST_ANSWER, call).await {
                        inner.local.repay(&key.name, answer.granted + debt);
                    }
                });
                Err(Failure::Late(late))
            }
        }
    }

    fn failed(self: &Arc<Self>, failure: &Failure) {
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
            tally::count_unseen(takes, FailureMode::Deny);
            return Decision::Unavailable;
        }
        let local = |take: &Take<'_>| take.quota.on_redis_failure == FailureMode::Local;
        let decision = self.local.decide(takes.iter().copied().filter(local));
        tally::count(&decision);
        if matches!(decision, Decision::Allowed(_)) {
            tally::count_unseen(takes, FailureMode::Allow);
        }
        decision
    }

    /// Debits in Redis what was admitted without it.
    async fn settle(&self) -> Result<(), Failure> {
        for debts in self.local.debts().chunks(SETTLED_AT_ONCE) {
            let questions = debts.iter().map(|debt| async {
                let owed = self.local.take_debt(&debt.bucket);
                let question = Question::settlement(owed, debt.shape);
                let asked = self.link.ask(&debt.bucket, debt.shape, &question).await;
                if asked.is_err() {
                    self.local.owe(&debt.bucket, owed);
                }
                asked
            });
            let all = futures_util::future::try_join_all(questions);
            timeout(LATEST_ANSWER, all).await??;
        }
        Ok(())
    }
}

/// What a keeper does next.
enum Step {
    Ask(Question),
    Wait(Duration),
    End,
}

/// Asks for one key until nobody waits and no lease is left.
async fn keep(inner: Arc<Inner>, quota: Arc<Quota>, key: Arc<Key>) {
    loop {
        match inner.next_step(&key) {
            Step::Ask(question) => inner.ask(&quota, &key, question).await,
            Step::Wait(idle) => drop(timeout(idle, key.wake.notified()).await),
            Step::End => return,
        }
    }
}

impl Inner {
    fn next_step(&self, key: &Key) -> Step {
        let now = self.clock.micros();
        let mut state = key.state();
        // Not while the outcome of other calls is open: late, they pay for what was admitted meanwhile.
        let pays = self.switch.is_well();
        let owed = if pays {
            self.local.take_debt(&key.name)
        } else {
            0
        };
        let lease = self.next_lease.fetch_add(1, Relaxed).max(1);
        let demand = self.demand.rate_with(&key.name, per_second);
        if let Some(question) = state.account.ask(demand, lease, owed, now) {
            return Step::Ask(question);
        }
        self.local.owe(&key.name, owed);
        let idle = match state.account.idle_at(now) {
            Some(idle) if now < idle => return Step::Wait(Duration::from_micros(idle - now)),
            idle => idle.is_some() && self.switch.state() == Breaker::Closed,
        };
        if let Some(question) = idle.then(|| state.account.hand_back(now)).flatten() {
            return Step::Ask(question);
        }
        state.has_keeper = false;
        Step::End
    }

    async fn ask(self: &Arc<Self>, quota: &Arc<Quota>, key: &Arc<Key>, question: Question) {
        let (kept, wanted, owed) = (question.kept, question.want, question.debt);
        match self.put(quota, key, question).await {
            Ok(answer) => {
                self.switch.succeeded();
                self.local.observe(quota, &key.name, answer.level);
                match wanted {
                    0 => self.handed_back.fetch_add(kept, Relaxed),
                    _ => self.leased.fetch_add(answer.granted, Relaxed),
                };
                let mut state = key.state();
                let told = state.account.answered(answer, self.clock.micros());
                for (tell, found) in told {
                    if let Err(Told::Found(Found::Tokens(ticket))) = tell.send(Told::Found(found)) {
                        state.account.put_back(ticket);
                    }
                }
            }
            Err(failure) => {
                self.local.owe(&key.name, owed);
                let unreached = key.state().account.unanswered();
                self.failed(&failure);
                for tell in unreached {
                    drop(tell.send(Told::Unreached));
                }
            }
        }
    }
}

/// Of this second, once enough of it has passed to tell; before, of the last one if that was more.
fn per_second(seen: RateComponents) -> f64 {
    let fraction = seen.current_interval_fraction;
    let current = seen.curr_samples as f64 / fraction.max(0.1);
    if fraction < 0.25 {
        current.max(seen.prev_samples as f64)
    } else {
        current
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
