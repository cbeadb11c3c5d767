//! How much of a bucket is leased, and for how long.

use super::bucket::Shape;

/// A hot key asks for what it will use in this time, per gateway.
const SPAN_MICROS: u64 = 30_000;
/// And at least, and at most, for:
const SPANS: std::ops::RangeInclusive<u64> = 50_000..=120_000;
/// A bucket is leased from when it holds so many tokens, which fill it in so many microseconds.
const MIN_BURST: u64 = 100;
const MIN_FILL: u64 = 200_000;

/// How tokens of one quota are leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    /// Microseconds for which a hot key's lease should last.
    span: u64,
    /// The most tokens of one lease; 0 where the burst is too small for leases.
    most: u64,
    /// What flows in within a span. With fewer tokens left, a hot key does not ask again for a span.
    scarce: u64,
    /// Of what is there, one lease takes no more than one part of so many.
    parts: u64,
}

impl Terms {
    pub(super) fn new(shape: Shape, gateways: u32) -> Self {
        let span = (SPAN_MICROS * u64::from(gateways.max(1))).clamp(*SPANS.start(), *SPANS.end());
        let scarce = (shape.refill.saturating_mul(span) / shape.token).max(1);
        // What flows in while a gateway waits, and what lies in leases, must find room; and of a few
        // tokens, the last must not lie with one gateway while another needs it.
        let leasable =
            shape.burst() >= MIN_BURST && shape.micros_until(0, shape.capacity) >= MIN_FILL;
        Self {
            span,
            most: if leasable {
                scarce.max(shape.burst() / 8)
            } else {
                0
            },
            scarce,
            parts: u64::from(gateways.clamp(1, 2)),
        }
    }

    /// The tokens that a key will use in one span; below one the key is cold.
    pub(super) fn demand(self, per_second: f64) -> u64 {
        let tokens = per_second.max(0.0) * self.span as f64 / 1e6;
        // A float that is too large for an integer becomes the largest.
        (tokens as u64).min(self.most)
    }

    pub(super) fn leases(self) -> bool {
        self.most > 0
    }

    pub(super) fn span(self) -> u64 {
        self.span
    }

    pub(super) fn scarce(self) -> u64 {
        self.scarce
    }

    pub(super) fn parts(self) -> u64 {
        self.parts
    }
}
