//! Counters of attempts.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use users::domain::{CounterKey, Quota};
use users::store::{AttemptDecision, UserStore};

use super::fixtures::now;

const QUOTA: Quota = Quota {
    burst: 5,
    every: Duration::from_secs(60),
};
const ADMITTED: AttemptDecision = AttemptDecision {
    admitted: Ok(()),
    known: false,
};

pub(super) async fn of_parallel_attempts_exactly_a_burst_is_admitted(store: Arc<dyn UserStore>) {
    let (key, now) = (CounterKey::of_account("ada"), now());
    let take = async |now| store.take_attempt(&key, &QUOTA, now).await.unwrap();
    let taken = join_all((0..40).map(|_| take(now))).await;
    let (admitted, refused): (Vec<_>, Vec<_>) =
        taken.into_iter().partition(|taken| taken.admitted.is_ok());
    assert_eq!(admitted.len(), 5);
    assert!(
        refused
            .iter()
            .all(|taken| taken.admitted == Err(QUOTA.every))
    );
    // Refused attempts changed nothing, and after the wait an attempt is admitted.
    assert_eq!(take(now + QUOTA.every).await, ADMITTED);
    let next = take(now + QUOTA.every).await;
    assert_eq!(next.admitted, Err(QUOTA.every));
    let other = CounterKey::of_account("eve");
    let other = store.take_attempt(&other, &QUOTA, now).await.unwrap();
    assert_eq!(other, ADMITTED);
}

pub(super) async fn an_attempt_that_is_given_back_was_never_made(store: Arc<dyn UserStore>) {
    let (key, now) = (CounterKey::of_account("ada"), now());
    for _ in 0..20 {
        let taken = store.take_attempt(&key, &QUOTA, now).await.unwrap();
        assert_eq!(taken, ADMITTED);
        store.return_attempt(&key, &QUOTA, None).await.unwrap();
    }
}

pub(super) async fn somebody_who_is_known_stays_so_for_a_while(store: Arc<dyn UserStore>) {
    let (key, now) = (CounterKey::of_address("ada", "203.0.113.7"), now());
    let hour = Duration::from_secs(3600);
    let take = async |now| store.take_attempt(&key, &QUOTA, now).await.unwrap();
    assert_eq!(take(now).await, ADMITTED);
    let known = store.return_attempt(&key, &QUOTA, Some(now + hour));
    known.await.unwrap();
    for _ in 0..5 {
        assert!(take(now).await.known);
    }
    // A known client can be over its quota, too.
    let refused = take(now).await;
    assert!(refused.known && refused.admitted.is_err());
    let almost = take(now + hour - Duration::from_millis(1)).await;
    assert!(almost.known && almost.admitted.is_ok());
    assert!(!take(now + hour).await.known);
}
