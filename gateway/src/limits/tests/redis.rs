//! The Redis limiter against a redis-server that works.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use testkit::{Redis, eventually, shared_redis};
use tokio::time::sleep;

use super::conformance::{Subject, conformance};
use super::{MINUTE, SECOND, allowed, limited, quota};
use crate::limits::{
    BreakerState, Decision, Mode, Quota, RateLimiter, RedisLimiter, RedisSettings, Take,
};

/// For tests in which Redis is healthy: far longer than anything takes here.
pub(super) const PATIENT: Duration = Duration::from_secs(5);

pub(super) fn limiter(url: &str, namespace: &str, deadline: Duration) -> RedisLimiter {
    RedisLimiter::new(&RedisSettings {
        url: url.into(),
        deadline,
        namespace: namespace.into(),
    })
    .unwrap()
}

struct InRedis {
    url: String,
    namespace: String,
    since: Instant,
}

#[async_trait]
impl Subject for InRedis {
    fn gateway(&self) -> Arc<dyn RateLimiter> {
        Arc::new(limiter(&self.url, &self.namespace, PATIENT))
    }

    fn now(&self) -> Duration {
        self.since.elapsed()
    }

    async fn pass(&self, time: Duration) {
        sleep(time).await;
    }
}

async fn subject() -> InRedis {
    let redis = shared_redis().await;
    InRedis {
        url: redis.url(),
        namespace: redis.key_prefix(),
        since: Instant::now(),
    }
}

conformance!(subject());

pub(super) async fn take(limiter: &RedisLimiter, quota: &Arc<Quota>) -> Decision {
    limiter.take(&[Take::new(quota, b"alice")]).await
}

#[tokio::test]
async fn a_bucket_is_one_key_that_expires_when_it_is_full() {
    let redis = shared_redis().await;
    let namespace = redis.key_prefix();
    let limiter = limiter(&redis.url(), &namespace, PATIENT);
    let user = quota("user", 1, MINUTE, 5);
    allowed(take(&limiter, &user).await);

    let key = format!("{namespace}:{{user:alice}}");
    assert!(redis.command(&format!("EXISTS {key}")).await.contains('1'));
    let left = redis.command(&format!("PTTL {key}")).await;
    let left: u64 = left
        .chars()
        .filter(char::is_ascii_digit)
        .collect::<String>()
        .parse()
        .unwrap();
    assert!((30_000..=60_001).contains(&left), "{left} ms");
}

#[tokio::test]
async fn a_clock_that_steps_back_locks_nobody_out() {
    let redis = shared_redis().await;
    let namespace = redis.key_prefix();
    let limiter = limiter(&redis.url(), &namespace, PATIENT);
    let user = quota("user", 10, SECOND, 1);
    let key = format!("{namespace}:{{user:alice}}");
    // A bucket as it looks after the clock was set back by a thousand years.
    redis
        .command(&format!(
            "HSET {key} level 0 at 33000000000000000 token {}",
            user.shape.token
        ))
        .await;

    let retry_after = limited(take(&limiter, &user).await)[0].retry_after.unwrap();
    assert!(retry_after <= Duration::from_millis(100));
    sleep(retry_after).await;
    allowed(take(&limiter, &user).await);
}

#[tokio::test]
async fn a_reload_keeps_the_tokens_that_fit() {
    let redis = shared_redis().await;
    let limiter = limiter(&redis.url(), &redis.key_prefix(), PATIENT);
    let hour = Duration::from_secs(3600);
    let first = quota("user", 1, MINUTE, 10);
    let other_rate = quota("user", 7, hour, 8);
    let smaller = quota("user", 7, hour, 2);
    for _ in 0..6 {
        allowed(take(&limiter, &first).await);
    }
    assert_eq!(allowed(take(&limiter, &other_rate).await)[0].remaining, 3);
    assert_eq!(allowed(take(&limiter, &smaller).await)[0].remaining, 1);
}

#[tokio::test]
async fn lost_scripts_and_lost_buckets_are_no_failure() {
    let redis = Redis::start().await;
    let limiter = limiter(&redis.url(), "sluice", PATIENT);
    let user = quota("user", 1, MINUTE, 5);
    let login = quota("login", 1, MINUTE, 5);
    let both = [Take::new(&user, b"alice"), Take::new(&login, b"alice")];
    // Each bucket gets a call for the request, and then one that ends the request's lease.
    let answered = async |count| {
        eventually(Duration::from_secs(5), async || {
            limiter.status().redis_calls.answered == count
        })
        .await;
    };
    assert_eq!(allowed(limiter.take(&both).await)[0].remaining, 4);
    // Two more calls, because Redis did not know the script.
    answered(2 + 2 + 2).await;
    redis.command("SCRIPT FLUSH").await;
    assert_eq!(allowed(limiter.take(&both).await)[1].remaining, 3);
    answered(6 + 6).await;
    // This gateway remembers the bucket's last level.
    redis.command("FLUSHALL").await;
    assert_eq!(allowed(limiter.take(&both).await)[0].remaining, 2);

    let status = limiter.status();
    assert_eq!(
        (status.mode, status.breaker),
        (Mode::Redis, BreakerState::Closed)
    );
    assert_eq!(status.redis_calls.failed, 0);
    answered(12 + 4).await;
}

#[test]
fn a_bad_url_is_refused_at_once() {
    for url in ["", "http://localhost", "redis://host:port"] {
        let settings = RedisSettings {
            url: url.into(),
            deadline: PATIENT,
            namespace: "sluice".into(),
        };
        assert!(RedisLimiter::new(&settings).is_err(), "{url}");
    }
}
