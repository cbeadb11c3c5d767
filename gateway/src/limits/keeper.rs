//! Keepers: the tasks that ask Redis, one for each key that has a question under way or a lease.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use pingora_limits::rate::RateComponents;
use tokio::time::timeout;

use super::breaker::Breaker;
use super::lease::{Answer, Found, Question};
use super::leased::{Inner, Key, Told};
use super::link::Failure;
use super::local::Clock;
use super::quota::Quota;

/// An answer that comes later than this is not waited for.
const LATEST_ANSWER: Duration = Duration::from_secs(30);

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
    /// Has a keeper look after the key, now.
    pub(super) fn call_keeper(self: &Arc<Self>, quota: &Arc<Quota>, key: &Arc<Key>) {
        if std::mem::replace(&mut key.state().has_keeper, true) {
            key.wake.notify_one();
        } else {
            tokio::spawn(keep(Arc::clone(self), Arc::clone(quota), Arc::clone(key)));
        }
    }

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
        let demand = self.demand.rate_with(&key.hash, per_second);
        if let Some(question) = state.account.ask(demand, lease, owed, now) {
            return Step::Ask(question);
        }
        self.local.owe(&key.name, owed);
        let over = state.account.is_over();
        let idle = match state.account.idle_at(now) {
            Some(idle) if now < idle && !over => {
                return Step::Wait(Duration::from_micros(idle - now));
            }
            idle => over || idle.is_some(),
        };
        if idle
            && self.switch.state() == Breaker::Closed
            && let Some(question) = state.account.hand_back(now)
        {
            return Step::Ask(question);
        }
        state.has_keeper = false;
        Step::End
    }

    async fn ask(self: &Arc<Self>, quota: &Arc<Quota>, key: &Arc<Key>, question: Question) {
        let (kept, wanted, owed) = (question.kept, question.want, question.debt);
        match self
            .put(Arc::clone(&key.name), question, self.link.deadline)
            .await
        {
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

    /// Puts a question, and waits `within` for its answer.
    pub(super) async fn put(
        self: &Arc<Self>,
        bucket: Arc<[u8]>,
        question: Question,
        within: Duration,
    ) -> Result<Answer, Failure> {
        let (inner, asked) = (Arc::clone(self), Arc::clone(&bucket));
        let debt = question.debt;
        let mut call = Box::pin(async move { inner.link.ask(&asked, &question).await });
        match timeout(within, &mut call).await {
            Ok(answer) => answer,
            Err(late) => {
                self.link.given_up();
                // What a late answer has debited pays for what is admitted without it.
                let inner = Arc::clone(self);
                tokio::spawn(async move {
                    if let Ok(Ok(answer)) = timeout(LATEST_ANSWER, call).await {
                        inner.local.repay(&bucket, answer.granted + debt);
                    }
                });
                Err(Failure::Late(late))
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
