use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;

use super::conformance::{Subject, conformance};
use super::{MINUTE, SECOND, allowed, limited, quota};
use crate::limits::local::Share;
use crate::limits::{Clock, Decision, LocalLimiter, Quota, RateLimiter, Take};

#[derive(Default)]
struct ManualClock(AtomicU64);

impl ManualClock {
    fn advance(&self, time: Duration) {
        self.0.fetch_add(time.as_micros() as u64, SeqCst);
    }
}

impl Clock for ManualClock {
    fn micros(&self) -> u64 {
        self.0.load(SeqCst)
    }
}

struct Local {
    limiter: Arc<LocalLimiter>,
    clock: Arc<ManualClock>,
}

impl Local {
    fn with_room_for(buckets: usize) -> Self {
        let clock = Arc::new(ManualClock::default());
        let limiter = LocalLimiter::new("", Share::Whole, Arc::clone(&clock) as _, buckets);
        Self {
            limiter: Arc::new(limiter),
            clock,
        }
    }

    async fn take(&self, quota: &Arc<Quota>, key: &str) -> Decision {
        self.limiter.take(&[Take::new(quota, key.as_bytes())]).await
    }
}

#[async_trait]
impl Subject for Local {
    fn gateway(&self) -> Arc<dyn RateLimiter> {
        Arc::clone(&self.limiter) as _
    }

    fn now(&self) -> Duration {
        Duration::from_micros(self.clock.micros())
    }

    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    fn tick(&self) {
        self.clock.advance(Duration::from_micros(1_300));
    }
}

async fn subject() -> Local {
    Local::with_room_for(4096)
}

conformance!(subject());

#[tokio::test]
async fn memory_is_bounded_and_a_flood_of_keys_loosens_no_limit() {
    let local = Local::with_room_for(256);
    let login = quota("login", 6, MINUTE, 3);
    for _ in 0..3 {
        allowed(local.take(&login, "alice").await);
    }
    let mut passed = 0;
    for number in 0..20_000 {
        let decision = local.take(&login, &format!("flood-{number}")).await;
        passed += usize::from(matches!(decision, Decision::Allowed(_)));
    }
    // Each bucket may admit its burst: those of the keys, and a shared one per shard.
    assert!(local.limiter.len() <= 256);
    assert!(passed <= (256 + 64) * 3, "{passed}");
    limited(local.take(&login, "alice").await);

    // Ten seconds are one token, whether a key had its own bucket or shared one.
    local.clock.advance(Duration::from_secs(10));
    allowed(local.take(&login, "alice").await);
    limited(local.take(&login, "alice").await);

    // Full buckets are forgotten, which makes room again: even if they all hash into one shard, seven keys
    // find room in it (four buckets of their own, and the burst of the shared one).
    for number in 0..100 {
        if number % 7 == 0 {
            local.clock.advance(MINUTE);
        }
        allowed(local.take(&login, &format!("later-{number}")).await);
    }
    assert!(local.limiter.len() <= 256);
}

#[tokio::test]
async fn no_key_gets_more_than_its_limit_by_moving_between_buckets() {
    let local = Local::with_room_for(1);
    let user = quota("user", 10, SECOND, 5);
    let mut admitted = vec![0_u64; 300];
    for round in 0..200_u64 {
        for (number, count) in admitted.iter_mut().enumerate() {
            let decision = local.take(&user, &format!("key-{number}")).await;
            *count += u64::from(matches!(decision, Decision::Allowed(_)));
            assert!(
                *count <= 5 + round * 33 / 1000 * 10 + 10,
                "key-{number}: {count}"
            );
        }
        local.clock.advance(Duration::from_millis(33));
    }
    // 199 rounds of 33 ms at 10/s are 65 tokens.
    assert!(admitted.iter().all(|count| *count <= 5 + 65));
}

#[tokio::test]
async fn one_gateways_part_is_its_share_of_rate_and_burst() {
    let clock = Arc::new(ManualClock::default());
    let local = LocalLimiter::new("", Share::PerGateway, Arc::clone(&clock) as _, 4096);
    let user = quota("user", 1, SECOND, 5);
    let one = [Take::new(&user, b"alice")];
    let take = || local.take(&one);
    allowed(take().await);
    allowed(take().await);
    let retry_after = limited(take().await)[0].retry_after;
    assert_eq!(retry_after, Some(Duration::from_secs(2)));
    clock.advance(Duration::from_millis(1_999));
    limited(take().await);
    clock.advance(Duration::from_millis(1));
    allowed(take().await);
}
