//! The arguments and the answer of `token_bucket.lua`.
//!
//! `lease.rs` builds a [`Renewal`], `client.rs` sends it, and `lease.rs` applies the [`Grant`].

use super::bucket::Shape;

/// How long a bucket keeps a lease.
pub(super) const LIFETIME_MICROS: u64 = 400_000;

/// One call of the script: settles the current lease and asks for the next one. The fields are the
/// script's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Renewal {
    pub(super) shape: Shape,
    /// Id of the lease that is settled; 0 for none.
    pub(super) settled: u64,
    /// Tokens of it that are unspent.
    pub(super) kept: u64,
    /// Tokens wanted; 0 hands the unspent ones back.
    pub(super) want: u64,
    /// The fewest tokens that are of use.
    pub(super) least: u64,
    /// Tokens that waiting requests need, granted if the bucket has them.
    pub(super) must: u64,
    /// Of these, the tokens that are spent as soon as they are granted.
    pub(super) spent: u64,
    /// At most one part in this many of the bucket's tokens is granted beyond `must`.
    pub(super) parts: u64,
    /// Id of the new lease.
    pub(super) lease: u64,
    /// Tokens admitted without Redis, to be debited.
    pub(super) debt: u64,
    /// The bucket's level in units, as far as this gateway knows: used if Redis does not have it.
    pub(super) unknown: u64,
}

impl Renewal {
    /// Pays a debt and does nothing else.
    pub(super) fn settlement(debt: u64, shape: Shape) -> Self {
        Self {
            shape,
            settled: 0,
            kept: 0,
            want: 0,
            least: 1,
            must: 0,
            spent: 0,
            parts: 1,
            lease: 0,
            debt,
            unknown: shape.capacity,
        }
    }
}

/// The script's answer to a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grant {
    /// Tokens.
    pub(super) granted: u64,
    /// The bucket's level afterwards, in units.
    pub(super) level: u64,
    /// Unspent tokens of the settled lease that the bucket still kept.
    pub(super) held: u64,
}
