//! The Redis limiter while a real redis-server hangs, dies, refuses writes or is cut off.

use std::sync::Arc;
use std::time::{Duration, Instant};

use testkit::{ChaosProxy, Redis, eventually, shared_redis};
use tokio::time::sleep;

use super::redis::{PATIENT, limiter, take};
use super::{MINUTE, SECOND, allowed, limited, policy, quota};
use crate::config::FailureMode;
use crate::limits::{
    BreakerState, Decision, Mode, Quota, RateLimiter, RedisLimiter, Take, Tallies,
};

/// For tests in which Redis fails: longer than the default, so that a busy machine does not look like a
/// broken Redis.
const DEADLINE: Duration = Duration::from_millis(200);

/// Waits until Redis decides again, which may take two seconds.
async fn back_to_redis(limiter: &RedisLimiter) {
    eventually(Duration::from_secs(2), || async {
        limiter.status().mode == Mode::Redis
    })
    .await;
}

/// Connects to Redis, so that no later deadline is spent on that.
async fn connected(limiter: &RedisLimiter) {
    let spare = quota("spare", 1, MINUTE, 9);
    allowed(take(limiter, &spare).await);
    assert_eq!(limiter.status().mode, Mode::Redis);
}

/// Causes the three failures that open the breaker. None takes much longer than the deadline.
async fn until_local(limiter: &RedisLimiter, quota: &Arc<Quota>) {
    for _ in 0..3 {
        let started = Instant::now();
        take(limiter, quota).await;
        assert!(started.elapsed() < 2 * DEADLINE);
    }
    assert_eq!(limiter.status().mode, Mode::Local);
}

#[tokio::test]
async fn a_hanging_redis_stalls_nobody_and_is_used_again_when_it_goes_on() {
    let mut redis = Redis::start().await;
    let limiter = limiter(&redis.url(), "sluice", DEADLINE);
    connected(&limiter).await;
    let user = quota("user", 1, MINUTE, 6);
    redis.pause();

    until_local(&limiter, &user).await;
    // This gateway's share of the burst is three tokens, which were taken.
    let started = Instant::now();
    limited(take(&limiter, &user).await);
    assert!(
        started.elapsed() < DEADLINE,
        "a Redis that does not answer was asked"
    );

    redis.resume();
    back_to_redis(&limiter).await;
    // The three requests admitted meanwhile are debited, by the late calls or by the settlement.
    assert_eq!(allowed(take(&limiter, &user).await)[0].remaining, 2);
}

#[tokio::test]
async fn a_killed_redis_is_found_again() {
    let mut redis = Redis::start().await;
    let limiter = limiter(&redis.url(), "sluice", DEADLINE);
    connected(&limiter).await;
    let user = quota("user", 1, MINUTE, 6);
    redis.kill();
    until_local(&limiter, &user).await;

    redis.restart_empty().await;
    back_to_redis(&limiter).await;
    // Three requests were admitted before the breaker opened.
    assert_eq!(allowed(take(&limiter, &user).await)[0].remaining, 2);
}

#[tokio::test]
async fn a_stand_in_starts_from_what_redis_said_last() {
    let mut redis = Redis::start().await;
    let limiter = limiter(&redis.url(), "sluice", DEADLINE);
    connected(&limiter).await;
    let user = quota("user", 1, MINUTE, 6);
    for _ in 0..6 {
        allowed(take(&limiter, &user).await);
    }
    redis.kill();
    // A bucket known to be empty refuses without Redis, and the fallback knows it as well.
    limited(take(&limiter, &user).await);
    until_local(&limiter, &quota("spare", 1, MINUTE, 9)).await;
    for _ in 0..6 {
        limited(take(&limiter, &user).await);
    }
}

#[tokio::test]
async fn what_was_admitted_without_redis_is_debited_also_where_nobody_asks_again() {
    let redis = shared_redis().await;
    let mut proxy = ChaosProxy::start(redis.address()).await;
    let namespace = redis.key_prefix();
    let cut_off = limiter(&redis.url_at(proxy.address()), &namespace, DEADLINE);
    let other = limiter(&redis.url(), &namespace, PATIENT);
    let user = quota("user", 1, MINUTE, 8);
    connected(&cut_off).await;
    assert_eq!(allowed(take(&other, &user).await)[0].remaining, 7);

    proxy.refuse().await;
    until_local(&cut_off, &quota("spare", 1, MINUTE, 9)).await;
    for _ in 0..3 {
        allowed(take(&cut_off, &user).await);
    }
    proxy.restore().await;
    back_to_redis(&cut_off).await;
    assert_eq!(allowed(take(&other, &user).await)[0].remaining, 3);
}

#[tokio::test]
async fn a_debt_that_has_been_refilled_locks_nobody_out() {
    let mut redis = Redis::start().await;
    let limiter = limiter(&redis.url(), "sluice", DEADLINE);
    connected(&limiter).await;
    redis.pause();
    until_local(&limiter, &quota("spare", 1, MINUTE, 9)).await;
    // Full again after a quarter of a second, even at this gateway's half of the rate.
    let user = quota("user", 40, SECOND, 10);
    for _ in 0..5 {
        allowed(take(&limiter, &user).await);
    }
    sleep(Duration::from_millis(300)).await;
    redis.resume();
    back_to_redis(&limiter).await;
    assert_eq!(allowed(take(&limiter, &user).await)[0].remaining, 9);
}

#[tokio::test]
async fn a_settlement_that_breaks_off_forgets_no_debt() {
    let mut redis = Redis::start().await;
    let limiter = limiter(&redis.url(), "sluice", DEADLINE);
    connected(&limiter).await;
    redis.pause();
    until_local(&limiter, &quota("spare", 1, MINUTE, 9)).await;
    let user = quota("user", 1, MINUTE, 8);
    let keys = ["alice", "bob", "carol"];
    for key in keys {
        allowed(limiter.take(&[Take::new(&user, key.as_bytes())]).await);
    }
    let owing = limiter.0.local.debts().len();
    limiter.0.settle().await.unwrap_err();
    assert_eq!(limiter.0.local.debts().len(), owing);

    // The same debts are paid by the late calls, and only once.
    redis.resume();
    back_to_redis(&limiter).await;
    for key in keys {
        let take = [Take::new(&user, key.as_bytes())];
        assert_eq!(allowed(limiter.take(&take).await)[0].remaining, 6);
    }
}

#[tokio::test]
async fn a_redis_that_starts_later_is_found() {
    let mut redis = Redis::start().await;
    redis.kill();
    let limiter = limiter(&redis.url(), "sluice", DEADLINE);
    until_local(&limiter, &quota("spare", 1, MINUTE, 9)).await;
    let user = quota("user", 1, MINUTE, 6);
    allowed(take(&limiter, &user).await);

    redis.restart().await;
    back_to_redis(&limiter).await;
    // The request admitted without Redis was a debt, which has been paid.
    assert_eq!(allowed(take(&limiter, &user).await)[0].remaining, 4);
}

#[tokio::test]
async fn a_redis_that_cannot_write_is_not_used_until_it_can() {
    let redis = Redis::start().await;
    let limiter = limiter(&redis.url(), "sluice", PATIENT);
    let user = quota("user", 1, MINUTE, 8);
    allowed(take(&limiter, &user).await);
    redis.command("CONFIG SET maxmemory 1").await;

    until_local(&limiter, &user).await;
    // A probe that cannot write does not close the breaker.
    eventually(Duration::from_secs(2), || async {
        limiter.status().redis_calls.failed > 4
    })
    .await;
    assert_eq!(limiter.status().mode, Mode::Local);

    redis.command("CONFIG SET maxmemory 0").await;
    back_to_redis(&limiter).await;
    // One request before the outage, and three before the breaker opened.
    assert_eq!(allowed(take(&limiter, &user).await)[0].remaining, 3);
}

#[tokio::test]
async fn a_slow_redis_is_not_waited_for() {
    let redis = shared_redis().await;
    let mut proxy = ChaosProxy::start(redis.address()).await;
    let limiter = limiter(
        &redis.url_at(proxy.address()),
        &redis.key_prefix(),
        DEADLINE,
    );
    connected(&limiter).await;
    let user = quota("user", 1, MINUTE, 20);
    proxy.latency(DEADLINE).await;
    until_local(&limiter, &user).await;

    proxy.restore().await;
    back_to_redis(&limiter).await;
}

#[tokio::test]
async fn a_broken_connection_is_replaced() {
    let redis = shared_redis().await;
    let mut proxy = ChaosProxy::start(redis.address()).await;
    let limiter = limiter(&redis.url_at(proxy.address()), &redis.key_prefix(), PATIENT);
    let user = quota("user", 1, MINUTE, 20);
    allowed(take(&limiter, &user).await);
    proxy.cut().await;

    // One request may still use the broken connection; the next ones use the new one.
    eventually(Duration::from_secs(2), || async {
        let answered = limiter.status().redis_calls.answered;
        allowed(take(&limiter, &user).await);
        limiter.status().redis_calls.answered > answered
    })
    .await;
    assert_eq!(limiter.status().breaker, BreakerState::Closed);
}

#[tokio::test]
async fn each_policy_does_as_it_says_while_redis_is_away() {
    let mut redis = Redis::start().await;
    redis.kill();
    let limiter = limiter(&redis.url(), "sluice", DEADLINE);
    until_local(&limiter, &quota("spare", 1, MINUTE, 9)).await;
    let tallies = Tallies::default();
    let with = |name: &str, on_redis_failure| {
        let policy = crate::config::Policy {
            on_redis_failure,
            ..policy(name, 1, MINUTE, 2)
        };
        Quota::new(&policy, 2, &tallies).unwrap()
    };
    let local = with("local", FailureMode::Local);
    let deny = with("deny", FailureMode::Deny);
    let open = with("open", FailureMode::Allow);
    let [local, deny, open] = [&local, &deny, &open].map(|quota| Take::new(quota, b"alice"));

    assert!(matches!(
        limiter.take(&[local, deny]).await,
        Decision::Unavailable
    ));
    for _ in 0..5 {
        assert!(allowed(limiter.take(&[open]).await).is_empty());
    }
    assert_eq!(
        allowed(limiter.take(&[open, local]).await).len(),
        1,
        "only buckets have snapshots"
    );
    assert_eq!(limited(limiter.take(&[open, local]).await).len(), 1);

    let counts = tallies.snapshot();
    let of = |name: &str| counts.iter().find(|(n, _)| n == name).unwrap().1;
    assert_eq!((of("deny").unavailable, of("open").unchecked), (1, 6));
    assert_eq!((of("local").admitted, of("local").denied), (1, 1));
}
