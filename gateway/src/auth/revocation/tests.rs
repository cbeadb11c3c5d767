use contract::id::SessionId;

use super::*;

const LIFE: Duration = Duration::from_secs(600);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn end(n: usize, seconds: i64) -> Ended {
    Ended {
        sid: SessionId::parse(&format!("s{n}")).unwrap(),
        at: at(seconds),
    }
}

fn has(revocations: &Revocations, n: usize) -> bool {
    revocations.known.load().has(&format!("s{n}"))
}

/// Pretends that a worker last answered this long ago.
fn answered(revocations: &Revocations, ago: Duration) {
    let then = Instant::now().checked_sub(ago).unwrap();
    revocations.answered.store(Some(Arc::new(then)));
}

#[test]
fn an_end_is_learnt_once_however_often_it_is_told() {
    let revocations = Revocations::new(WhenStale::Allow);
    for _ in 0..3 {
        revocations.learn(&[end(1, 0), end(2, 0)], at(1), LIFE);
    }
    assert!(has(&revocations, 1) && has(&revocations, 2) && !has(&revocations, 3));
    assert_eq!(revocations.feed_status().learnt, 2);
}

#[test]
fn ends_of_which_no_token_can_be_good_any_more_are_forgotten_and_no_other() {
    let revocations = Revocations::new(WhenStale::Allow);
    let old: Vec<_> = (0..RECENT).map(|n| end(n, 0)).collect();
    revocations.learn(&old, at(1), LIFE);
    assert!(has(&revocations, 0) && has(&revocations, RECENT - 1));
    let later = i64::try_from((LIFE + LEEWAY).as_secs()).unwrap();
    let new: Vec<_> = (0..RECENT).map(|n| end(RECENT + n, later)).collect();
    revocations.learn(&new, at(later - 1), LIFE);
    assert!(has(&revocations, 0) && has(&revocations, 2 * RECENT - 1));
    let last: Vec<_> = (0..RECENT).map(|n| end(2 * RECENT + n, later)).collect();
    revocations.learn(&last, at(later), LIFE);
    assert!(!has(&revocations, 0) && !has(&revocations, RECENT - 1));
    assert!(has(&revocations, RECENT) && has(&revocations, 3 * RECENT - 1));
    assert_eq!(revocations.known.load().len(), 2 * RECENT);
}

#[test]
fn a_gateway_waits_for_the_past_and_not_for_ever_where_it_may_do_without() {
    let deny = Revocations::new(WhenStale::Deny);
    let mut allow = Revocations::new(WhenStale::Allow);
    assert!(!deny.is_ready() && !allow.is_ready());
    allow.started = Instant::now().checked_sub(2 * STALE).unwrap();
    assert!(allow.is_ready());
    answered(&deny, Duration::ZERO);
    assert!(deny.is_ready());
}

#[test]
fn a_feed_is_stale_after_five_seconds_without_an_answer_or_with_more_than_can_be_kept() {
    let revocations = Revocations::new(WhenStale::Deny);
    assert!(revocations.is_stale(), "the earlier ends are not loaded");
    answered(&revocations, STALE - Duration::from_secs(1));
    assert!(!revocations.is_stale());
    answered(&revocations, STALE + Duration::from_secs(1));
    assert!(revocations.is_stale());
    answered(&revocations, Duration::ZERO);
    let many: Vec<_> = (0..=MAX_ENDS).map(|n| end(n, 0)).collect();
    revocations.learn(&many, at(1), LIFE);
    assert!(revocations.is_stale() && revocations.known.load().len() == MAX_ENDS);
}
