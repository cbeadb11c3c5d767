//! How much of a bucket is leased, and for how long.

use super::bucket::Shape;

/// A lease should last this long times the number of gateways, within [`PERIODS`].
const PERIOD_MICROS: u64 = 30_000;
/// The bounds of that time, in microseconds.
const PERIODS: std::ops::RangeInclusive<u64> = 50_000..=120_000;
/// A bucket is leased only if it holds at least this many tokens and takes at least this many
/// microseconds to fill.
const MIN_BURST: u64 = 100;
const MIN_FILL: u64 = 200_000;

/// How tokens of one quota are leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeaseSizing {
    /// Microseconds that the lease of a hot key should last.
    period: u64,
    /// The most tokens of one lease; 0 if the bucket is too small for leases.
    max_tokens: u64,
    /// Tokens that flow in within a period. If fewer are left, a hot key waits a period before it renews.
    scarce: u64,
    /// Beyond what waiting requests need, a lease takes at most one part in this many of the available
    /// tokens.
    parts: u64,
}

impl LeaseSizing {
    pub(super) fn new(shape: Shape, gateways: u32) -> Self {
        let period =
            (PERIOD_MICROS * u64::from(gateways.max(1))).clamp(*PERIODS.start(), *PERIODS.end());
        let scarce = (shape.refill.saturating_mul(period) / shape.token).max(1);
        // The bucket needs room for the tokens on lease and for those that flow in while a gateway waits.
        // And when there are few tokens, one gateway must not hold those that another needs.
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

    /// The tokens that a key will use in one period. A key is hot if that is more than one.
    pub(super) fn demand(self, per_second: f64) -> u64 {
        let tokens = per_second.max(0.0) * self.period as f64 / 1e6;
        // The cast saturates.
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
