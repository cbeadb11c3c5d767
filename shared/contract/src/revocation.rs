//! How gateways learn which sessions have ended: what they ask user workers for, again and again, and
//! what these answer.
//!
//! An end is durable before it is told. Ends become visible out of the order of their times, and the
//! times are several workers': so whoever follows asks again for the last [`OVERLAP`] every time, and
//! puts what is known already aside.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::SessionId;

/// Asked with a gateway's signature, of nobody in particular. `?since=MILLISECONDS&after=SESSION`: ends
/// behind that time and, of that very time, behind that session. Without `since`: all that matter.
pub const PATH: &str = "/internal/revocations";

/// How late an end may become visible, and how far the clocks of two workers may be apart.
pub const OVERLAP: Duration = Duration::from_secs(10);

/// Ends in one answer.
pub const AT_ONCE: usize = 5_000;

/// What a user worker answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// The worker's time, before it looked.
    #[serde(with = "crate::time::millis")]
    pub now: Timestamp,
    /// How long an access token may outlive its session's end.
    pub tokens_live_ms: u64,
    /// In the order of their times; [`AT_ONCE`] of them where there may be more.
    pub ended: Vec<Ended>,
}

/// One session's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub sid: SessionId,
    #[serde(with = "crate::time::millis")]
    pub at: Timestamp,
}
