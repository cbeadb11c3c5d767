//! Renewers: tasks that call Redis. A bucket has one while a call for it is pending or it has a lease.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use pingora_limits::rate::RateComponents;
use tokio::time::timeout;

use super::breaker::BreakerState;
use super::client::Failure;
use super::lease::ReserveResult;
use super::leased::{LeasedBucket, LeasedBuckets, Reply};
use super::local::Clock;
use super::quota::Quota;
use super::renewal::{Grant, Renewal};

/// A grant that arrives after its deadline is still awaited this long, so that it can be accounted
/// for.
const LATE_GRANT_TIMEOUT: Duration = Duration::from_secs(30);

/// What a renewer does next.
enum Step {
    Renew(Renewal),
    Wait(Duration),
    End,
}

/// Renews one bucket's lease until no request waits and no lease is left.
async fn run_renewer(buckets: Arc<LeasedBuckets>, quota: Arc<Quota>, bucket: Arc<LeasedBucket>) {
    loop {
        match buckets.next_step(&bucket) {
            Step::Renew(renewal) => buckets.renew(&quota, &bucket, renewal).await,
            Step::Wait(idle) => drop(timeout(idle, bucket.wake.notified()).await),
            Step::End => return,
        }
    }
}

impl LeasedBuckets {
    /// Wakes the bucket's renewer, or starts one.
    pub(super) fn wake_renewer(self: &Arc<Self>, quota: &Arc<Quota>, bucket: &Arc<LeasedBucket>) {
        if std::mem::replace(&mut bucket.state().has_renewer, true) {
            bucket.wake.notify_one();
        } else {
            tokio::spawn(run_renewer(
                Arc::clone(self),
                Arc::clone(quota),
                Arc::clone(bucket),
            ));
        }
    }

    fn next_step(&self, bucket: &LeasedBucket) -> Step {
        let now = self.clock.micros();
        let mut state = bucket.state();
        // No debt is paid while the result of another call is unknown: if that call arrives late,
        // what it debited already pays for what was admitted meanwhile.
        let owed = if self.breaker.is_healthy() {
            self.local.take_debt(&bucket.name)
        } else {
            0
        };
        let lease = self.next_lease.fetch_add(1, Relaxed).max(1);
        let demand = self.demand.rate_with(&bucket.hash, per_second);
        if let Some(renewal) = state.account.next_renewal(demand, lease, owed, now) {
            return Step::Renew(renewal);
        }
        self.local.owe(&bucket.name, owed);
        let over = state.account.is_over();
        let idle = match state.account.idle_at(now) {
            Some(idle) if now < idle && !over => {
                return Step::Wait(Duration::from_micros(idle - now));
            }
            idle => over || idle.is_some(),
        };
        if idle
            && self.breaker.state() == BreakerState::Closed
            && let Some(renewal) = state.account.hand_back(now)
        {
            return Step::Renew(renewal);
        }
        state.has_renewer = false;
        Step::End
    }

    async fn renew(
        self: &Arc<Self>,
        quota: &Arc<Quota>,
        bucket: &Arc<LeasedBucket>,
        renewal: Renewal,
    ) {
        let (kept, wanted, owed) = (renewal.kept, renewal.want, renewal.debt);
        match self
            .call(Arc::clone(&bucket.name), renewal, self.client.deadline)
            .await
        {
            Ok(grant) => {
                self.breaker.succeeded();
                self.local.adopt_level(quota, &bucket.name, grant.level);
                match wanted {
                    0 => self.handed_back.fetch_add(kept, Relaxed),
                    _ => self.leased.fetch_add(grant.granted, Relaxed),
                };
                let mut state = bucket.state();
                let replies = state.account.apply_grant(grant, self.clock.micros());
                for (reply_to, result) in replies {
                    let unsent = reply_to.send(Reply::Answered(result));
                    if let Err(Reply::Answered(ReserveResult::Reserved(reservation))) = unsent {
                        state.account.release(reservation);
                    }
                }
            }
            Err(failure) => {
                self.local.owe(&bucket.name, owed);
                let waiting = bucket.state().account.abandon_renewal();
                self.failed(&failure);
                for reply_to in waiting {
                    drop(reply_to.send(Reply::Unreachable));
                }
            }
        }
    }

    /// Sends a renewal and waits at most `deadline` for its grant.
    pub(super) async fn call(
        self: &Arc<Self>,
        bucket: Arc<[u8]>,
        renewal: Renewal,
        deadline: Duration,
    ) -> Result<Grant, Failure> {
        let (buckets, called) = (Arc::clone(self), Arc::clone(&bucket));
        let debt = renewal.debt;
        let mut call = Box::pin(async move { buckets.client.call(&called, &renewal).await });
        match timeout(deadline, &mut call).await {
            Ok(grant) => grant,
            Err(late) => {
                self.client.count_given_up();
                // What a late call debited pays for what is admitted without it.
                let buckets = Arc::clone(self);
                tokio::spawn(async move {
                    if let Ok(Ok(grant)) = timeout(LATE_GRANT_TIMEOUT, call).await {
                        buckets.local.repay(&bucket, grant.granted + debt);
                    }
                });
                Err(Failure::Late(late))
            }
        }
    }
}

/// Tokens per second, extrapolated from the current second. In its first quarter, the previous
/// second counts if it saw more.
fn per_second(seen: RateComponents) -> f64 {
    let fraction = seen.current_interval_fraction;
    let current = seen.curr_samples as f64 / fraction.max(0.1);
    if fraction < 0.25 {
        current.max(seen.prev_samples as f64)
    } else {
        current
    }
}
