use std::sync::Arc;

use super::{SECOND, quota};
use crate::limits::{ConcurrencyLimiter, Take};

#[test]
fn a_key_has_so_many_requests_at_one_time_and_no_more() {
    let (limiter, user) = (
        Arc::new(ConcurrencyLimiter::default()),
        quota("user", 9, SECOND, 9),
    );
    let (alice, bob) = (Take::new(&user, b"alice"), Take::new(&user, b"bob"));
    let first = limiter.acquire(&alice, 2);
    let second = limiter.acquire(&alice, 2);
    assert!(first.is_some() && second.is_some());
    assert!(limiter.acquire(&alice, 2).is_none());
    assert!(
        limiter.acquire(&bob, 2).is_some(),
        "another key has its own"
    );
    drop(first);
    assert!(limiter.acquire(&alice, 2).is_some());
    drop(second);
    assert_eq!(
        limiter.keys(),
        0,
        "a key without a running request takes no memory"
    );
}

#[test]
fn counts_are_exact_under_contention() {
    let (limiter, user) = (
        Arc::new(ConcurrencyLimiter::default()),
        quota("user", 9, SECOND, 9),
    );
    let most = std::sync::atomic::AtomicU32::new(0);
    let running = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    if let Some(permit) = limiter.acquire(&Take::new(&user, b"alice"), 3) {
                        use std::sync::atomic::Ordering::SeqCst;
                        most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                        running.fetch_sub(1, SeqCst);
                        drop(permit);
                    }
                }
            });
        }
    });
    assert!(most.into_inner() <= 3);
    assert_eq!(limiter.keys(), 0);
}
