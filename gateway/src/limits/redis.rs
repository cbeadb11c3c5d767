//! Token buckets in Redis, shared by all gateways and spent here through leases.
//!
//! A bucket's [`Account`] holds what this gateway may spend on it. A request reserves its tokens
//! there, or is refused by what the account knows, without waiting. Only when the account knows too
//! little does the request wait for Redis, together with every other request of its key. A *renewer*
//! makes the call for all of them: a task that each bucket has while a call is pending or a lease
//! runs. It renews the lease before the lease is spent, and hands it back once nobody uses it.
//!
//! Every call has its own deadline. While Redis does not answer, the breaker keeps requests away from
//! it, every policy follows its `on_redis_failure`, and a background task tries a fresh connection.
//! Once Redis is back, it is debited for what was admitted meanwhile.

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

use super::breaker::{Breaker, BreakerState};
use super::client::{BucketClient, Failure, RedisSettings};
use super::counting;
use super::key::BucketKey;
use super::lease::{Account, ReserveResult};
use super::leased::{LeasedBucket, LeasedBuckets, Reply};
use super::local::{Clock, LocalLimiter, Monotonic};
use super::port::{Decision, LeasedTokens, Mode, RateLimiter, Snapshot, Status, Take, decision};
use super::renewal::Renewal;
use crate::config::FailureMode;

const PROBE_EVERY: Duration = Duration::from_millis(250);
/// Buckets whose accounts are kept. Forgetting an account loses its lease, but loosens no limit.
const MAX_ACCOUNTS: usize = 65_536;
/// The demand estimate: 2 MiB of counts, so that many cold keys together do not look like a hot one.
const HASHES: usize = 4;
const SLOTS: usize = 32_768;
/// How many debts are settled at once, and how long each may take.
const SETTLE_BATCH: usize = 256;
const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);
/// A reservation may expire while the request waits for another. The request then starts over, at
/// most this many rounds in all.
const MAX_ROUNDS: usize = 3;

/// Clones share one connection, one breaker and all leases.
#[derive(Clone)]
pub struct RedisLimiter(pub(super) Arc<LeasedBuckets>);

/// How far a request has come with one of its takes.
enum TakeState {
    Known(ReserveResult),
    Waiting(oneshot::Receiver<Reply>),
    /// Redis did not answer.
    Unreachable,
}

impl RedisLimiter {
    /// Reads the URL; does no I/O.
    pub fn new(settings: &RedisSettings) -> Result<Self, RedisError> {
        // A random start, so that no two gateways use the same lease ids.
        let (_, first_lease) = uuid::Uuid::now_v7().as_u64_pair();
        Ok(Self(Arc::new(LeasedBuckets {
            client: BucketClient::new(settings)?,
            namespace: settings.namespace.as_str().into(),
            breaker: Breaker::default(),
            local: LocalLimiter::per_gateway(&settings.namespace),
            buckets: Cache::new(MAX_ACCOUNTS),
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
        let leased = &self.0;
        let buckets: Vec<Arc<LeasedBucket>> = takes.iter().map(|t| leased.bucket(t)).collect();
        for _ in 0..MAX_ROUNDS {
            let mut states = leased.reserve(takes, &buckets);
            for state in &mut states {
                if let TakeState::Waiting(reply) = state {
                    *state = match reply.await {
                        Ok(Reply::Answered(result)) => TakeState::Known(result),
                        Ok(Reply::Unreachable) | Err(_) => TakeState::Unreachable,
                    };
                }
            }
            // Invariant: nothing awaits between here and the decision.
            if let Some(decision) = leased.decide(takes, &buckets, &states) {
                return decision;
            }
        }
        leased.without_redis(takes)
    }

    fn status(&self) -> Status {
        let leased = &self.0;
        let breaker = leased.breaker.state();
        Status {
            mode: match breaker {
                BreakerState::Closed => Mode::Redis,
                BreakerState::Open | BreakerState::HalfOpen => Mode::Local,
            },
            breaker,
            redis_calls: leased.client.calls(),
            leases: LeasedTokens {
                granted: leased.leased.load(Relaxed),
                handed_back: leased.handed_back.load(Relaxed),
            },
        }
    }
}

impl LeasedBuckets {
    fn bucket(&self, take: &Take<'_>) -> Arc<LeasedBucket> {
        let name = BucketKey::new(&self.namespace, take.quota.name(), take.key);
        let bucket = self.buckets.get(&name[..]).unwrap_or_else(|| {
            let account = Account::new(take.quota.shape, take.quota.sizing);
            let bucket = LeasedBucket::new(&name, self.hasher.hash_one(&name[..]), account);
            self.buckets.insert(name[..].into(), Arc::clone(&bucket));
            bucket
        });
        if take.quota.sizing.is_leased() {
            let cost = isize::try_from(take.cost).unwrap_or(isize::MAX);
            self.demand.observe(&bucket.hash, cost);
        }
        bucket
    }

    /// Reserves what the accounts have. Unless one of them refuses, joins the requests that wait for
    /// the rest.
    fn reserve(
        self: &Arc<Self>,
        takes: &[Take<'_>],
        buckets: &[Arc<LeasedBucket>],
    ) -> Vec<TakeState> {
        let now = self.clock.micros();
        let redis = self.breaker.state() == BreakerState::Closed;
        let mut refused = false;
        let mut states: Vec<TakeState> = Vec::with_capacity(takes.len());
        for (take, bucket) in takes.iter().zip(buckets) {
            if refused {
                // Nothing is taken from the buckets after one that refuses.
                states.push(TakeState::Known(ReserveResult::Unknown));
                continue;
            }
            let mut state = bucket.state();
            let account = &mut state.account;
            account.follow_policy(take.quota.shape, take.quota.sizing);
            let result = account.reserve(take.cost.into(), now);
            refused |= redis && matches!(result, ReserveResult::Exhausted(_));
            let low = redis && account.runs_low(now);
            drop(state);
            if low {
                self.wake_renewer(take.quota, bucket);
            }
            states.push(match result {
                ReserveResult::Unknown | ReserveResult::Exhausted(_) if !redis => {
                    TakeState::Unreachable
                }
                result => TakeState::Known(result),
            });
        }
        if !refused && redis {
            let alone = takes.len() == 1;
            for ((take, bucket), state) in takes.iter().zip(buckets).zip(&mut states) {
                if matches!(state, TakeState::Known(ReserveResult::Unknown)) {
                    let (reply_to, reply) = oneshot::channel();
                    let cost = take.cost.into();
                    bucket.state().account.wait(cost, alone, reply_to);
                    self.wake_renewer(take.quota, bucket);
                    *state = TakeState::Waiting(reply);
                }
            }
        }
        states
    }

    /// Spends all reservations, or releases them. `None` when one has expired meanwhile.
    fn decide(
        self: &Arc<Self>,
        takes: &[Take<'_>],
        buckets: &[Arc<LeasedBucket>],
        states: &[TakeState],
    ) -> Option<Decision> {
        use ReserveResult::{Exhausted, Reserved};
        let now = self.clock.micros();
        let is_valid =
            |state: &TakeState| matches!(state, TakeState::Known(Reserved(r)) if r.is_valid(now));
        let admitted = states.iter().all(is_valid);
        if !admitted {
            for ((take, bucket), state) in takes.iter().zip(buckets).zip(states) {
                if let TakeState::Known(Reserved(reservation)) = state {
                    let mut state = bucket.state();
                    state.account.release(*reservation);
                    let over = state.account.is_over();
                    drop(state);
                    if over {
                        self.wake_renewer(take.quota, bucket);
                    }
                }
            }
            if states.iter().any(|s| matches!(s, TakeState::Unreachable)) {
                return Some(self.without_redis(takes));
            }
        }
        let refused = |state: &TakeState| match state {
            TakeState::Known(Exhausted(wait)) => Some(*wait),
            _ => None,
        };
        if !admitted && !states.iter().any(|state| refused(state).is_some()) {
            return None;
        }
        let each = takes.iter().zip(buckets).zip(states);
        let snapshots = each.map(|((take, bucket), take_state)| {
            let mut state = bucket.state();
            if let (true, TakeState::Known(Reserved(reservation))) = (admitted, take_state) {
                state.account.spend(*reservation);
            }
            let (level, over) = (state.account.level(now), state.account.is_over());
            drop(state);
            if over {
                self.wake_renewer(take.quota, bucket);
            }
            Snapshot::new(take, take.quota.shape, level, refused(take_state))
        });
        let decision = decision(snapshots.collect());
        counting::count(&decision);
        Some(decision)
    }

    pub(super) fn failed(self: &Arc<Self>, failure: &Failure) {
        if self.breaker.failed() {
            warn!(
                error = failure as &dyn std::error::Error,
                "redis is away: limits are enforced locally"
            );
            tokio::spawn(probe(Arc::downgrade(self)));
        }
    }

    /// Decides by each policy's `on_redis_failure`.
    fn without_redis(&self, takes: &[Take<'_>]) -> Decision {
        let wants = |mode| takes.iter().any(|t| t.quota.on_redis_failure == mode);
        if wants(FailureMode::Deny) {
            counting::count_unchecked(takes, FailureMode::Deny);
            return Decision::Unavailable;
        }
        let local = |take: &Take<'_>| take.quota.on_redis_failure == FailureMode::Local;
        let decision = self.local.decide(takes.iter().copied().filter(local));
        counting::count(&decision);
        if matches!(decision, Decision::Allowed(_)) {
            counting::count_unchecked(takes, FailureMode::Allow);
        }
        decision
    }

    /// Debits Redis for what was admitted without it.
    pub(super) async fn settle(self: &Arc<Self>) -> Result<(), Failure> {
        for debts in self.local.debts().chunks(SETTLE_BATCH) {
            let settlements = debts.iter().map(|debt| async {
                let owed = self.local.take_debt(&debt.bucket);
                let settlement = Renewal::settlement(owed, debt.shape);
                let bucket = Arc::from(&*debt.bucket);
                let settled = self.call(bucket, settlement, SETTLE_TIMEOUT).await;
                if settled.is_err() {
                    self.local.owe(&debt.bucket, owed);
                }
                settled
            });
            // Every settlement runs to its end, even if one fails: each restores a debt that it
            // could not pay.
            let settled = futures_util::future::join_all(settlements).await;
            settled
                .into_iter()
                .try_for_each(|result| result.map(drop))?;
        }
        Ok(())
    }
}

/// Tries fresh connections until one works or the limiter is dropped.
async fn probe(leased: Weak<LeasedBuckets>) {
    loop {
        sleep(PROBE_EVERY).await;
        let Some(leased) = leased.upgrade() else {
            return;
        };
        leased.breaker.half_open();
        let bucket = BucketKey::new(&leased.namespace, "_", b"probe");
        let back = match leased.client.reconnect(&bucket).await {
            // Known debts are settled before the breaker closes. What is admitted while they are
            // being settled is paid by the next renewal of its bucket.
            Ok(()) => leased.settle().await,
            Err(failure) => Err(failure),
        };
        match back {
            Ok(()) => {
                leased.breaker.close();
                info!("redis is back: limits are shared by all gateways again");
                if let Err(failure) = leased.settle().await {
                    debug!(
                        error = &failure as &dyn std::error::Error,
                        "some debts are not settled yet"
                    );
                }
                return;
            }
            Err(failure) => {
                leased.breaker.reopen();
                debug!(
                    error = &failure as &dyn std::error::Error,
                    "redis is still away"
                );
            }
        }
    }
}
