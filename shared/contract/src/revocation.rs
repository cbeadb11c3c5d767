//! How gateways learn which sessions have ended: the request that they repeat to the user workers, and its
//! response.
//!
//! An end is durable before it is reported. Ends do not become visible in the order of their times, and
//! the times come from several workers' clocks. So every request asks again for the last [`OVERLAP`],
//! and the gateway ignores the ends that it knows.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::SessionId;

/// Requested with a gateway's signature and without a user. `?since=MILLISECONDS&after=SESSION` asks for
/// the ends after that time and, at that very time, after that session; without `since`, for all ends
/// that still matter.
pub const PATH: &str = "/internal/revocations";

/// How late an end may become visible, and how far the clocks of two workers may be apart.
pub const OVERLAP: Duration = Duration::from_secs(10);

/// The most ends in one answer.
pub const MAX_ENDED: usize = 5_000;

/// What a user worker answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// The worker's clock before it read its store.
    #[serde(with = "crate::time::millis")]
    pub now: Timestamp,
    /// How long an access token may outlive its session's end.
    pub tokens_live_ms: u64,
    /// In the order of their times; exactly [`MAX_ENDED`] if there may be more.
    pub ended: Vec<Ended>,
}

/// One session's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub sid: SessionId,
    #[serde(with = "crate::time::millis")]
    pub at: Timestamp,
}
