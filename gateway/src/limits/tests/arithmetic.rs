use std::time::Duration;

use proptest::prelude::*;

use super::{MINUTE, SECOND, policy, quota};
use crate::config::Rate;
use crate::limits::bucket::{Bucket, Shape};
use crate::limits::{Quota, Tallies};

fn rates() -> impl Strategy<Value = (Rate, u32)> {
    let per = prop_oneof![Just(SECOND), Just(MINUTE), Just(Duration::from_secs(3600))];
    (1u32..5_000, per, 1u32..50).prop_map(|(tokens, per, burst)| (Rate { tokens, per }, burst))
}

proptest! {
    /// A take is admitted if and only if no window that ends with it would then hold more than
    /// burst + rate·t.
    #[test]
    fn a_bucket_admits_exactly_burst_plus_rate_times_t(
        (rate, burst) in rates(),
        gateways in 1u32..5,
        steps in prop::collection::vec((0u64..3, 0u64..2_000_000), 1..150),
    ) {
        let whole = Shape::new(rate, burst).unwrap();
        for shape in [whole, whole.share(gateways)] {
            let mut now = 1_000_000_000;
            let mut bucket = Bucket::with_level(shape.capacity, now);
            let mut admitted: Vec<u64> = Vec::new();
            for &(kind, step) in &steps {
                // No gap (a burst), short gaps, and gaps of about a token.
                now += [0, step / 1000, step][kind as usize];
                let breaks_a_window = (0..=admitted.len()).any(|first| {
                    let since = admitted.get(first).copied().unwrap_or(now);
                    let count = (admitted.len() - first) as u64 + 1;
                    count * shape.token > shape.capacity + shape.refill * (now - since)
                });
                let result = bucket.take(shape, 1, now);
                prop_assert_eq!(result.admitted, !breaks_a_window);
                if result.admitted {
                    admitted.push(now);
                } else {
                    let wait = shape.micros_until(result.level, shape.token);
                    prop_assert!(wait > 0);
                    prop_assert!(!bucket.take(shape, 1, now + wait - 1).admitted);
                    prop_assert!(bucket.level_at(shape, now + wait) >= shape.token);
                }
            }
        }
    }

    #[test]
    fn the_shares_of_all_gateways_are_no_more_than_the_whole(
        (rate, burst) in rates(),
        gateways in 1u32..20,
    ) {
        let whole = Shape::new(rate, burst).unwrap();
        let share = whole.share(gateways);
        prop_assert_eq!(share.refill * whole.token * u64::from(gateways), whole.refill * share.token);
        prop_assert_eq!(share.burst(), u64::from(burst / gateways).max(1));
    }
}

#[test]
fn a_clock_that_steps_back_gives_nothing_away() {
    let shape = Shape::new(
        Rate {
            tokens: 10,
            per: SECOND,
        },
        1,
    )
    .unwrap();
    let mut bucket = Bucket::with_level(shape.capacity, 5_000_000);
    assert!(bucket.take(shape, 1, 5_000_000).admitted);
    assert!(!bucket.take(shape, 1, 1_000_000).admitted);
    assert!(!bucket.take(shape, 1, 5_050_000).admitted);
    assert!(bucket.take(shape, 1, 5_100_000).admitted);
}

#[test]
fn a_reload_keeps_the_number_of_tokens() {
    let (old, new) = (
        quota("user", 100, SECOND, 200).shape,
        quota("user", 7, MINUTE, 150).shape,
    );
    let mut bucket = Bucket::with_level(120 * old.token, 0);
    bucket.reshape(old, new);
    assert_eq!(bucket.level_at(new, 0), 120 * new.token);
    bucket.reshape(new, quota("user", 7, MINUTE, 50).shape);
    assert_eq!(bucket.level_at(new, 0), 50 * new.token);
}

#[test]
fn a_bucket_that_cannot_be_counted_exactly_is_refused_at_start() {
    let hour = Duration::from_secs(3600);
    let huge = policy("user", 1, hour, 10_000_000);
    let refused = Quota::new(&huge, 2, &Tallies::default()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the policy `user` cannot be counted exactly: lower its burst"
    );
    let large = policy("user", 1_000_000, SECOND, 2_000_000_000);
    assert!(Quota::new(&large, 2, &Tallies::default()).is_ok());
}
