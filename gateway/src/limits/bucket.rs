//! The arithmetic of one token bucket, in integers.
//!
//! A token is `token` units, and every microsecond adds `refill` units. So any configured rate
//! (`30/min`) is exact: nothing is rounded and nothing drifts. Over any window of t seconds, a bucket
//! admits at most burst + rate·t. Pure: it reads no clock. `local.rs` calls it; `token_bucket.lua` does
//! the same arithmetic in Redis.

use crate::config::Rate;

/// Lua counts in doubles, which are exact for integers up to this one.
const MAX_UNITS: u64 = 1 << 53;

/// The constants of a bucket. Two buckets of one shape differ only in their level and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// Units per microsecond.
    pub(super) refill: u64,
    /// Units of one token.
    pub(super) token: u64,
    /// Units of a full bucket.
    pub(super) capacity: u64,
}

impl Shape {
    /// `None` when the bucket is too large to be counted exactly.
    pub(super) fn new(rate: Rate, burst: u32) -> Option<Self> {
        let (tokens, micros) = (
            u64::from(rate.tokens),
            u64::try_from(rate.per.as_micros()).ok()?,
        );
        let divisor = gcd(tokens, micros);
        if divisor == 0 || tokens == 0 || burst == 0 {
            return None;
        }
        let token = micros / divisor;
        let capacity = token.checked_mul(u64::from(burst))?;
        (capacity <= MAX_UNITS).then_some(Self {
            refill: tokens / divisor,
            token,
            capacity,
        })
    }

    /// One gateway's share when `gateways` of them run without Redis: the rate and the burst divided by
    /// their number, but a burst of at least one token.
    pub(super) fn share(self, gateways: u32) -> Self {
        let gateways = u64::from(gateways.max(1));
        let token = self.token.saturating_mul(gateways);
        Self {
            refill: self.refill,
            token,
            capacity: token.saturating_mul((self.burst() / gateways).max(1)),
        }
    }

    pub(super) fn burst(self) -> u64 {
        self.capacity / self.token
    }

    pub(super) fn units(self, tokens: u64) -> u64 {
        self.token.saturating_mul(tokens)
    }

    /// Microseconds until `level` reaches `wanted`.
    pub(super) fn micros_until(self, level: u64, wanted: u64) -> u64 {
        wanted.saturating_sub(level).div_ceil(self.refill)
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The result of a take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TakeResult {
    pub(super) admitted: bool,
    /// Units in the bucket afterwards.
    pub(super) level: u64,
}

/// The bucket of one key. Times are in microseconds of one monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bucket {
    level: u64,
    at: u64,
}

impl Bucket {
    pub(super) fn with_level(level: u64, now: u64) -> Self {
        Self { level, at: now }
    }

    /// Takes `cost` tokens if they are there; otherwise changes nothing.
    pub(super) fn take(&mut self, shape: Shape, cost: u32, now: u64) -> TakeResult {
        let level = self.level_at(shape, now);
        let units = shape.units(cost.into());
        let admitted = level >= units;
        if admitted {
            self.level = level - units;
            self.at = self.at.max(now);
        }
        TakeResult {
            admitted,
            level: if admitted { self.level } else { level },
        }
    }

    /// Gives back tokens that were taken from this bucket.
    pub(super) fn give_back(&mut self, shape: Shape, cost: u32) {
        let level = self.level.saturating_add(shape.units(cost.into()));
        self.level = level.min(shape.capacity);
    }

    pub(super) fn level_at(&self, shape: Shape, now: u64) -> u64 {
        now.saturating_sub(self.at)
            .saturating_mul(shape.refill)
            .saturating_add(self.level)
            .min(shape.capacity)
    }

    /// When the bucket is full, and so equals a new one.
    pub(super) fn full_at(&self, shape: Shape) -> u64 {
        self.at
            .saturating_add(shape.micros_until(self.level, shape.capacity))
    }

    /// Lowers the level so that this many more tokens fit.
    pub(super) fn leave_room(&mut self, shape: Shape, tokens: u64) {
        let room = shape.capacity.saturating_sub(shape.units(tokens));
        self.level = self.level.min(room);
    }

    /// Converts the level to another shape: the same number of tokens, rounded down.
    pub(super) fn reshape(&mut self, from: Shape, to: Shape) {
        let level = u128::from(self.level) * u128::from(to.token) / u128::from(from.token);
        self.level = u64::try_from(level).unwrap_or(u64::MAX).min(to.capacity);
    }
}
