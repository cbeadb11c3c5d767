//! The text of `RateLimit-Policy`, `RateLimit` and `Retry-After`.
//!
//! Structured fields of draft-ietf-httpapi-ratelimit-headers-11. `q` is the burst, and `w` the seconds
//! in which an empty bucket fills. `r` is the number of tokens left, and `t` the seconds until there is
//! one more. Times are whole seconds, rounded up. Every response to which a policy applied carries
//! these headers; [`crate::request`] sets them.

use std::fmt::Write;

use http::{HeaderName, HeaderValue};

use super::port::Snapshot;
use super::quota::seconds;

pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// `RateLimit-Policy`; `None` when no policy applied.
pub fn policy(snapshots: &[Snapshot]) -> Option<HeaderValue> {
    match snapshots {
        [] => None,
        [only] => Some(only.quota.policy_header.clone()),
        several => {
            let items: Vec<&[u8]> = several
                .iter()
                .map(|s| s.quota.policy_header.as_bytes())
                .collect();
            HeaderValue::from_maybe_shared(bytes::Bytes::from(items.join(&b", "[..]))).ok()
        }
    }
}

/// `RateLimit`; `None` when no policy applied.
pub fn limit(snapshots: &[Snapshot]) -> Option<HeaderValue> {
    let refused = snapshots.iter().any(|s| s.retry_after.is_some());
    let mut text = String::with_capacity(snapshots.len() * 32);
    for snapshot in snapshots {
        let separator = if text.is_empty() { "" } else { ", " };
        write!(
            text,
            "{separator}\"{}\";r={}",
            snapshot.quota.name, snapshot.remaining
        )
        .ok()?;
        // No window may end after Retry-After, so a refusal shows only the windows of the policies that
        // refused.
        if !refused || snapshot.retry_after.is_some() {
            write!(text, ";t={}", seconds(snapshot.next)).ok()?;
        }
    }
    (!text.is_empty())
        .then(|| HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).ok())
        .flatten()
}

/// `Retry-After`: the longest wait among the policies that refused; `None` when none did.
pub fn retry_after(snapshots: &[Snapshot]) -> Option<HeaderValue> {
    let longest = snapshots.iter().filter_map(|s| s.retry_after).max()?;
    Some(HeaderValue::from(seconds(longest).max(1)))
}
