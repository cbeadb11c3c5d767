//! Rate limits: how often a key may pass.
//!
//! A request is measured against every [`Quota`] that applies to it; it passes when each of them
//! has the tokens it costs, and a refusal by one takes nothing from the others. The port is
//! [`RateLimiter`]; its adapters are [`RedisLimiter`] (one bucket per key for all gateways, on Redis'
//! clock, spent by leases) and [`LocalLimiter`] (this process only; also what stands in while Redis
//! is away). Admission calls `take`, and renders the answer with [`headers`]. Why it is exact:
//! docs/why-strict-leases.md.
//!
//! Nothing here may answer an error because of Redis, wait for it longer than the deadline, or
//! admit more than burst + rate·t where Redis can be reached.

mod port;
mod quota;

pub mod headers;

mod bucket;
mod key;
mod local;

mod lease;
mod sizing;

mod breaker;
mod client;
mod leased;
mod redis;
mod renewer;
mod server;

mod concurrency;
mod counting;
mod tally;

#[cfg(test)]
mod tests;

pub use breaker::BreakerState;
pub use client::RedisSettings;
pub use concurrency::{ConcurrencyLimiter, ConcurrencyPermit};
pub use local::{Clock, LocalLimiter, Monotonic};
pub use port::{Decision, LeasedTokens, Mode, RateLimiter, RedisCalls, Snapshot, Status, Take};
pub use quota::{Quota, QuotaError};
pub use redis::RedisLimiter;
pub use tally::{Tallies, Tally, TallySnapshot};
