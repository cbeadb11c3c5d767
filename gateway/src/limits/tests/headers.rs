use std::sync::Arc;
use std::time::Duration;

use super::{MINUTE, SECOND, quota};
use crate::limits::{Quota, Snapshot, headers};

fn snapshot(quota: &Arc<Quota>, remaining: u64, next_ms: u64, retry_ms: Option<u64>) -> Snapshot {
    Snapshot {
        quota: Arc::clone(quota),
        remaining,
        next: Duration::from_millis(next_ms),
        retry_after: retry_ms.map(Duration::from_millis),
    }
}

#[test]
fn one_policy_reads_as_in_the_draft() {
    let user = quota("user", 100, SECOND, 200);
    let admitted = [snapshot(&user, 199, 10, None)];
    assert_eq!(headers::policy(&admitted).unwrap(), "\"user\";q=200;w=2");
    assert_eq!(headers::limit(&admitted).unwrap(), "\"user\";r=199;t=1");
    assert_eq!(headers::retry_after(&admitted), None);
}

#[test]
fn windows_are_whole_seconds_rounded_up() {
    let login = quota("login", 30, MINUTE, 10);
    let fast = quota("fast", 1000, SECOND, 1);
    let both = [
        snapshot(&login, 0, 2001, Some(2001)),
        snapshot(&fast, 0, 1, Some(1)),
    ];
    assert_eq!(
        headers::policy(&both).unwrap(),
        "\"login\";q=10;w=20, \"fast\";q=1;w=1"
    );
    assert_eq!(
        headers::limit(&both).unwrap(),
        "\"login\";r=0;t=3, \"fast\";r=0;t=1"
    );
    assert_eq!(headers::retry_after(&both).unwrap(), "3");
}

#[test]
fn a_refusal_tells_no_window_longer_than_its_retry_after() {
    let (user, login) = (
        quota("user", 100, SECOND, 200),
        quota("login", 30, MINUTE, 10),
    );
    let refused = [
        snapshot(&user, 0, 10, Some(10)),
        snapshot(&login, 4, 1500, None),
    ];
    assert_eq!(
        headers::limit(&refused).unwrap(),
        "\"user\";r=0;t=1, \"login\";r=4"
    );
    assert_eq!(headers::retry_after(&refused).unwrap(), "1");
}

#[test]
fn without_a_policy_there_are_no_headers() {
    assert_eq!(headers::policy(&[]), None);
    assert_eq!(headers::limit(&[]), None);
    assert_eq!(headers::retry_after(&[]), None);
}
