//! What every limiter must do. Runs against the local limiter and against Redis.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinSet;

use super::{MINUTE, SECOND, allowed, limited, policy, quota};
use crate::limits::{Decision, Quota, RateLimiter, Take, Tallies, TallySnapshot};

/// A limiter with fresh buckets, and its clock.
#[async_trait]
pub(super) trait Subject: Send + Sync {
    /// One more gateway on the same buckets.
    fn gateway(&self) -> Arc<dyn RateLimiter>;
    fn now(&self) -> Duration;
    /// Lets this much time pass.
    async fn pass(&self, time: Duration);
    /// Lets a moment pass if the clock is advanced by hand.
    fn tick(&self) {}
}

macro_rules! conformance {
    ($subject:expr) => {
        $crate::limits::tests::conformance::conformance!($subject;
            a_fresh_key_has_its_whole_burst
            a_refusal_costs_nothing
            who_waits_as_told_passes
            a_bucket_fills_up_to_its_burst_and_no_further
            gateways_share_one_bucket_exactly
            a_refusal_by_one_policy_takes_nothing_from_the_others
            keys_and_policies_are_apart
            decisions_are_counted_by_policy
        );
    };
    ($subject:expr; $($fact:ident)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $fact() {
            $crate::limits::tests::conformance::$fact(&$subject.await).await;
        })+
    };
}
pub(super) use conformance;

async fn take(gateway: &Arc<dyn RateLimiter>, quota: &Arc<Quota>, key: &str) -> Decision {
    gateway.take(&[Take::new(quota, key.as_bytes())]).await
}

pub(super) async fn a_fresh_key_has_its_whole_burst(subject: &dyn Subject) {
    let (gateway, login) = (subject.gateway(), quota("login", 1, MINUTE, 5));
    for left in (0..5).rev() {
        let snapshot = &allowed(take(&gateway, &login, "alice").await)[0];
        assert_eq!(snapshot.remaining, left);
        assert_eq!(snapshot.retry_after, None);
        assert!(snapshot.next <= MINUTE && !snapshot.next.is_zero());
    }
    let snapshot = &limited(take(&gateway, &login, "alice").await)[0];
    assert_eq!(snapshot.remaining, 0);
    assert!(snapshot.retry_after.unwrap() <= MINUTE);
    assert!(snapshot.retry_after.unwrap() > Duration::from_secs(30));
}

pub(super) async fn a_refusal_costs_nothing(subject: &dyn Subject) {
    let (gateway, login) = (subject.gateway(), quota("login", 1, MINUTE, 1));
    allowed(take(&gateway, &login, "alice").await);
    let mut wait = MINUTE;
    for _ in 0..50 {
        let retry_after = limited(take(&gateway, &login, "alice").await)[0]
            .retry_after
            .unwrap();
        assert!(retry_after <= wait, "{retry_after:?} after {wait:?}");
        wait = retry_after;
    }
}

pub(super) async fn who_waits_as_told_passes(subject: &dyn Subject) {
    let (gateway, user) = (subject.gateway(), quota("user", 50, SECOND, 2));
    for _ in 0..5 {
        let retry_after = loop {
            if let Decision::Limited(refused) = take(&gateway, &user, "alice").await {
                break refused[0].retry_after.unwrap();
            }
        };
        assert!(retry_after <= Duration::from_millis(20));
        subject.pass(retry_after).await;
        allowed(take(&gateway, &user, "alice").await);
    }
}

pub(super) async fn a_bucket_fills_up_to_its_burst_and_no_further(subject: &dyn Subject) {
    let (gateway, user) = (subject.gateway(), quota("user", 100, SECOND, 3));
    for _ in 0..3 {
        take(&gateway, &user, "alice").await;
    }
    subject.pass(Duration::from_millis(100)).await;
    assert_eq!(
        allowed(take(&gateway, &user, "alice").await)[0].remaining,
        2
    );
}

/// Over a window of t: never more than burst + rate·t, and no token is lost.
pub(super) async fn gateways_share_one_bucket_exactly(subject: &dyn Subject) {
    const RATE: u32 = 200;
    const BURST: u32 = 200;
    let user = quota("user", RATE, SECOND, BURST);
    let gateways = [subject.gateway(), subject.gateway()];
    let sixteen_at_once = || async {
        let mut asking = JoinSet::new();
        for number in 0..16 {
            let (gateway, user) = (Arc::clone(&gateways[number % 2]), Arc::clone(&user));
            asking.spawn(async move { take(&gateway, &user, "alice").await });
        }
        let answers = asking.join_all().await;
        subject.tick();
        answers
            .iter()
            .filter(|answer| matches!(answer, Decision::Allowed(_)))
            .count()
    };

    // Until the bucket is empty: what would flow into a full bucket is lost.
    let before = subject.now();
    let mut from_full = 0;
    loop {
        let passed = sixteen_at_once().await;
        from_full += passed;
        if passed < 16 {
            break;
        }
    }
    let emptied_at = subject.now();
    let mut from_empty = 0;
    while subject.now() - emptied_at < Duration::from_millis(400) {
        from_empty += sixteen_at_once().await;
    }
    // Until unused leases have been handed back.
    subject.pass(Duration::from_millis(500)).await;
    let ended = subject.now();
    let left = match take(&gateways[1], &user, "alice").await {
        Decision::Allowed(left) => left[0].remaining + 1,
        Decision::Limited(left) => left[0].remaining,
        Decision::Unavailable => panic!("unavailable"),
    };
    let after = subject.now();

    let refill = |window: Duration| f64::from(RATE) * window.as_secs_f64();
    let passed = (from_full + from_empty) as f64 + left as f64;
    let at_most = f64::from(BURST) + refill(after - before);
    assert!(passed <= at_most, "{passed} of at most {at_most}");
    let accounted = from_empty as f64 + left as f64 + 1.0;
    let at_least = refill(ended - emptied_at);
    assert!(accounted >= at_least, "{accounted} of at least {at_least}");
}

pub(super) async fn a_refusal_by_one_policy_takes_nothing_from_the_others(subject: &dyn Subject) {
    let gateway = subject.gateway();
    let (wide, narrow) = (quota("wide", 1, MINUTE, 5), quota("narrow", 1, MINUTE, 2));
    let both = [Take::new(&wide, b"alice"), Take::new(&narrow, b"alice")];
    for left in [(4, 1), (3, 0)] {
        let snapshots = allowed(gateway.take(&both).await);
        assert_eq!((snapshots[0].remaining, snapshots[1].remaining), left);
    }
    for _ in 0..3 {
        let snapshots = limited(gateway.take(&both).await);
        assert_eq!((snapshots[0].remaining, snapshots[1].remaining), (3, 0));
        assert_eq!(snapshots[0].retry_after, None);
        assert!(snapshots[1].retry_after.is_some());
    }
    assert_eq!(
        allowed(take(&gateway, &wide, "alice").await)[0].remaining,
        2
    );
}

pub(super) async fn keys_and_policies_are_apart(subject: &dyn Subject) {
    let gateway = subject.gateway();
    let (user, login) = (quota("user", 1, MINUTE, 1), quota("login", 1, MINUTE, 1));
    let long = "x".repeat(300);
    let similar = format!("{long}y");
    for quota in [&user, &login] {
        for key in [
            "alice",
            "bob",
            "",
            "alice}",
            "login:alice",
            "2001:db8::/64",
            &long,
            &similar,
        ] {
            allowed(take(&gateway, quota, key).await);
            limited(take(&gateway, quota, key).await);
        }
    }
}

pub(super) async fn decisions_are_counted_by_policy(subject: &dyn Subject) {
    let (gateway, tallies) = (subject.gateway(), Tallies::default());
    let wide = Quota::new(&policy("wide", 1, MINUTE, 9), 2, &tallies).unwrap();
    let narrow = Quota::new(&policy("narrow", 1, MINUTE, 1), 2, &tallies).unwrap();
    for _ in 0..3 {
        gateway
            .take(&[Take::new(&wide, b"alice"), Take::new(&narrow, b"alice")])
            .await;
    }
    let count = |admitted, denied| TallySnapshot {
        admitted,
        denied,
        ..TallySnapshot::default()
    };
    let expected = [("narrow".into(), count(1, 2)), ("wide".into(), count(1, 0))];
    assert_eq!(tallies.snapshot(), expected);
}
