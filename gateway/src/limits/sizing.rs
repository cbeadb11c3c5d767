//! How much of a bucket is leased, and for how long.

use super::bucket::Shape;

/// A hot key asks for what it will use in this time, per gateway.
const PERIOD_MICROS: u64 = 30_000;
/// And at least, and at most, for:
const PERIODS: std::ops::RangeInclusive<u64> = 50_000..=120_000;
/// A bucket is leased from when it holds so many tokens, which fill it in so many microseconds.
const MIN_BURST: u64 = 100;
const MIN_FILL: u64 = 200_000;

/// How tokens of one quota are leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeaseSizing {
    /// Microseconds for which a hot key's lease should last.
    period: u64,
    /// The most tokens of one lease; 0 where the burst is too small for leases.
    max_tokens: u64,
    /// What flows in within a period. With fewer tokens left, a hot key does not ask again for a period.
    scarce: u64,
    /// Of what is there, one lease takes no more than one part of so many.
    parts: u64,
}

impl LeaseSizing {
    pub(super) fn new(shape: Shape, gateways: u32) -> Self {
        let period =
            (PERIOD_MICROS * u64::from(gateways.max(1))).clamp(*PERIODS.start(), *PERIODS.end());
        let scarce = (shape.refill.saturating_mul(period) / shape.token).max(1);
        // What flows in while a gateway waits, and what lies in leases, must find room; and of a few
        // tokens, the last must not lie with one gateway while another needs it.
        let leasable =
            shape.burst() >= MIN_BURST && shape.micros_until(0, shape.capacity) >= MIN_FILL;
        Self {
            period,
            max_tokens: if leasable {
                scarce.max(shape.burst() / 8)
            } else {
                0
            },
            scarce,
            parts: u64::from(gateways.clamp(1, 2)),
        }
    }

    /// The tokens that a key will use in one period; below one the key is cold.
    pub(super) fn demand(self, per_second: f64) -> u64 {
        let tokens = per_second.max(0.0) * self.period as f64 / 1e6;
        // A float that is too large for an integer becomes the largest.
        (tokens as u64).min(self.max_tokens)
    }

    pub(super) fn is_leased(self) -> bool {
        self.max_tokens > 0
    }

    pub(super) fn period(self) -> u64 {
        self.period
    }

    pub(super) fn scarce(self) -> u64 {
        self.scarce
    }

    pub(super) fn parts(self) -> u64 {
        self.parts
    }
}
