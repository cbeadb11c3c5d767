//! Rate limits: how many requests of a key are admitted, per time and at the same time.
//!
//! A request is checked against every [`Quota`] that applies to it. It is admitted if each of them has
//! the tokens it costs; if one refuses, nothing is taken from the others. The port is [`RateLimiter`].
//! Its adapters are [`RedisLimiter`] (one bucket per key for all gateways, on Redis' clock, spent
//! through leases) and [`LocalLimiter`] (this process only; also the fallback while Redis is away).
//! Admission calls `take`; [`headers`] formats the result. docs/why-strict-leases.md explains why this
//! is exact.
//!
//! Nothing here may return an error because of Redis, wait for Redis longer than the deadline, or admit
//! more than burst + rate·t while Redis can be reached.

mod port;
mod quota;

pub mod headers;

mod bucket;
mod key;
mod local;

mod lease;
mod renewal;
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
