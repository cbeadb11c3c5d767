//! One gateway's account on one bucket: what it may spend without asking, and when it asks for more.
//!
//! Pure: it reads no clock and does no I/O, so that tests/leases.rs can drive many accounts through
//! losses, delays and crashes. `redis.rs` passes the time in; `renewer.rs` sends its renewals to
//! `token_bucket.lua`.
//!
//! Invariants, which together make every window exact:
//! - A token is spent only after the bucket was debited for it, and before its lease expires on this
//!   gateway's clock. That expiry is counted from before the renewal was sent, so the bucket keeps the
//!   lease for longer than the gateway uses it.
//! - An unspent token is reported to the bucket once, by the id of its lease. From then on it is not
//!   spent here unless the grant says that it was carried over into the new lease.
//! - A grant that is lost is a lost lease.

use std::collections::VecDeque;

use super::bucket::{Bucket, Shape};
use super::renewal::{Grant, LIFETIME_MICROS, Renewal};
use super::sizing::LeaseSizing;

/// How long the holder of a lease may spend it. Clocks differ in speed, by far less than one per cent.
const SPENT_WITHIN_MICROS: u64 = LIFETIME_MICROS - LIFETIME_MICROS / 100;
/// A lease that was not renewed within this time is no longer needed.
const IDLE_MICROS: u64 = 240_000;

/// Tokens set aside for one request, until it spends or releases them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reservation {
    cost: u64,
    /// The number of the last renewal before it was made; `None` when it cannot be released.
    renewal: Option<u64>,
    until: u64,
}

impl Reservation {
    /// The bucket already counts it as spent.
    pub(super) fn already_spent() -> Self {
        Self {
            cost: 1,
            renewal: None,
            until: u64::MAX,
        }
    }

    /// Whether it may still be spent.
    pub(super) fn is_valid(&self, now: u64) -> bool {
        now < self.until
    }
}

/// What a request gets when it tries to reserve tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReserveResult {
    Reserved(Reservation),
    /// There are too few. Enough are there in this many microseconds at the earliest.
    Exhausted(u64),
    /// Only the bucket knows.
    Unknown,
}

/// A request that waits for a grant. `W` is how its result is sent to it.
struct Waiter<W> {
    cost: u64,
    /// No other policy can refuse the request, so its tokens are spent as soon as they are granted.
    alone: bool,
    reply_to: W,
}

impl<W> Waiter<W> {
    /// Requests of one token each can spend whatever is granted, however few tokens that are.
    fn spends_at_once(&self) -> bool {
        self.alone && self.cost == 1
    }
}

/// A renewal whose grant has not arrived.
struct PendingRenewal {
    renewal: Renewal,
    /// The key has enough demand for a lease.
    hot: bool,
    /// How many of the waiters it covers, from the front of the queue.
    waiting: usize,
    sent: u64,
}

pub(super) struct Account<W> {
    shape: Shape,
    sizing: LeaseSizing,
    /// Unspent tokens of the lease with the id `lease`, which expires at `until`.
    tokens: u64,
    lease: u64,
    until: u64,
    /// Tokens of the last grant. When a quarter of it is left, the lease is renewed.
    granted: u64,
    /// The bucket after the last grant. Only other gateways can have changed it since.
    bucket: Option<Bucket>,
    /// The bucket was nearly empty, so the next renewal waits until then.
    not_before: u64,
    pending: Option<PendingRenewal>,
    /// Renewals sent plus leases lost.
    renewals: u64,
    /// Reservations on the lease that are neither spent nor released.
    reserved: u64,
    /// The lease was taken because of demand. A lease that was not ends with the requests it was for.
    hot: bool,
    waiting: VecDeque<Waiter<W>>,
}

impl<W> Account<W> {
    pub(super) fn new(shape: Shape, sizing: LeaseSizing) -> Self {
        Self {
            shape,
            sizing,
            tokens: 0,
            lease: 0,
            until: 0,
            granted: 0,
            bucket: None,
            not_before: 0,
            pending: None,
            renewals: 0,
            reserved: 0,
            hot: false,
            waiting: VecDeque::new(),
        }
    }

    /// Follows a changed policy. A lease is counted in whole tokens, so it is kept as far as it fits.
    pub(super) fn follow_policy(&mut self, shape: Shape, sizing: LeaseSizing) {
        if self.shape != shape {
            self.tokens = self.tokens.min(shape.burst());
            if let Some(bucket) = &mut self.bucket {
                bucket.reshape(self.shape, shape);
                bucket.leave_room(shape, self.tokens);
            }
            (self.shape, self.sizing) = (shape, sizing);
        }
    }

    /// Reserves tokens of the lease, if it has them.
    pub(super) fn reserve(&mut self, cost: u64, now: u64) -> ReserveResult {
        let available = self.unspent(now);
        if available >= cost {
            self.tokens -= cost;
            self.reserved += 1;
            return ReserveResult::Reserved(Reservation {
                cost,
                renewal: Some(self.renewals),
                until: self.until,
            });
        }
        let Some(bucket) = self.bucket else {
            return ReserveResult::Unknown;
        };
        let level = bucket.level_at(self.shape, now);
        let lacking = self.shape.units(cost - available);
        let wait = self.shape.micros_until(level, lacking);
        match wait.max(self.not_before.saturating_sub(now)) {
            0 => ReserveResult::Unknown,
            wait => ReserveResult::Exhausted(wait),
        }
    }

    /// Queues a request for the next grant.
    pub(super) fn wait(&mut self, cost: u64, alone: bool, reply_to: W) {
        self.waiting.push_back(Waiter {
            cost,
            alone,
            reply_to,
        });
    }

    /// Takes back a reservation that was not spent. Its tokens are lost if the lease was settled in
    /// the meantime, because the bucket was told an unspent amount without them.
    pub(super) fn release(&mut self, reservation: Reservation) {
        if reservation.renewal == Some(self.renewals) {
            self.tokens += reservation.cost;
            self.reserved = self.reserved.saturating_sub(1);
        }
    }

    /// Spends a reservation.
    pub(super) fn spend(&mut self, reservation: Reservation) {
        if reservation.renewal == Some(self.renewals) {
            self.reserved = self.reserved.saturating_sub(1);
        }
    }

    /// Whether the lease should be handed back because nobody needs it any more. A bucket does not
    /// refill for tokens that are on lease, which costs a small bucket a large part of its rate.
    pub(super) fn is_over(&self) -> bool {
        self.lease != 0
            && !self.hot
            && self.reserved == 0
            && self.pending.is_none()
            && self.waiting.is_empty()
    }

    /// The units that this gateway could spend at most: its lease plus the known level of the bucket.
    pub(super) fn level(&self, now: u64) -> u64 {
        let level = self
            .bucket
            .map_or(self.shape.capacity, |b| b.level_at(self.shape, now));
        let unspent = self.shape.units(self.unspent(now));
        level.saturating_add(unspent).min(self.shape.capacity)
    }

    fn unspent(&self, now: u64) -> u64 {
        if now < self.until { self.tokens } else { 0 }
    }

    /// Whether the lease should be renewed although no request waits.
    pub(super) fn runs_low(&self, now: u64) -> bool {
        self.pending.is_none()
            && self.sizing.is_leased()
            && self.unspent(now) > 0
            && self.tokens * 4 <= self.granted
            && now >= self.not_before
    }

    /// The next renewal: for the requests that wait, and for as much as the key's demand (tokens per
    /// second) will use. `None` when there is nothing to ask for, or a renewal is pending.
    pub(super) fn next_renewal(
        &mut self,
        demand: f64,
        lease: u64,
        debt: u64,
        now: u64,
    ) -> Option<Renewal> {
        if self.pending.is_some() || (self.waiting.is_empty() && !self.runs_low(now)) {
            return None;
        }
        let must = self.waiting.iter().map(|w| w.cost).sum();
        let demand = self.sizing.demand(demand);
        let renewal = Renewal {
            want: demand.max(must).max(1),
            least: self.waiting.iter().map(|w| w.cost).min().unwrap_or(1),
            must,
            spent: self.waiting.iter().filter(|w| w.spends_at_once()).count() as u64,
            parts: self.sizing.parts(),
            lease,
            debt,
            ..self.settlement(now)
        };
        Some(self.send(renewal, demand > 1, now))
    }

    /// Ends a lease that is idle or over, and hands back its unspent tokens.
    pub(super) fn hand_back(&mut self, now: u64) -> Option<Renewal> {
        if self.pending.is_some() || !self.waiting.is_empty() || self.lease == 0 {
            return None;
        }
        let renewal = self.settlement(now);
        (self.tokens, self.lease) = (0, 0);
        Some(self.send(renewal, false, now))
    }

    fn settlement(&self, now: u64) -> Renewal {
        let known = self.bucket.map(|b| b.level_at(self.shape, now));
        Renewal {
            settled: self.lease,
            kept: if self.lease == 0 { 0 } else { self.tokens },
            unknown: known.unwrap_or(self.shape.capacity),
            ..Renewal::settlement(0, self.shape)
        }
    }

    fn send(&mut self, renewal: Renewal, hot: bool, now: u64) -> Renewal {
        self.renewals += 1;
        self.reserved = 0;
        if now >= self.until {
            // Expired here: spent only if the grant says that the bucket kept them.
            self.tokens = 0;
        }
        self.pending = Some(PendingRenewal {
            renewal: renewal.clone(),
            hot,
            waiting: self.waiting.len(),
            sent: now,
        });
        renewal
    }

    /// When an unused lease should be handed back; `None` without one.
    pub(super) fn idle_at(&self, now: u64) -> Option<u64> {
        let back = (self.until + IDLE_MICROS).saturating_sub(SPENT_WITHIN_MICROS);
        (self.unspent(now) > 0).then_some(back.max(now))
    }

    /// Applies a grant. Returns the results of the waiters it covered, and of later waiters as far as
    /// these are now known.
    pub(super) fn apply_grant(&mut self, grant: Grant, now: u64) -> Vec<(W, ReserveResult)> {
        let Some(pending) = self.pending.take() else {
            return Vec::new();
        };
        let renewal = &pending.renewal;
        let mut bucket = Bucket::with_level(grant.level, now);
        bucket.reshape(renewal.shape, self.shape);
        self.bucket = Some(bucket);
        if renewal.want == 0 {
            return Vec::new();
        }
        if grant.held == 0 {
            self.tokens = 0;
            self.renewals += 1;
            self.reserved = 0;
        } else if pending.sent >= self.until {
            self.tokens = grant.held;
        }
        let mut at_once = renewal.spent.min(grant.granted);
        self.tokens += grant.granted - at_once;
        let leased = grant.held + grant.granted - at_once;
        self.lease = if leased > 0 { renewal.lease } else { 0 };
        self.hot = pending.hot;
        self.until = pending.sent + SPENT_WITHIN_MICROS;
        self.granted = grant.granted;
        let few = grant.level < renewal.shape.units(self.sizing.scarce());
        self.not_before = if pending.hot && few {
            now + self.sizing.period()
        } else {
            0
        };

        let mut replies = Vec::with_capacity(self.waiting.len());
        for (position, waiter) in std::mem::take(&mut self.waiting).into_iter().enumerate() {
            let covered = position < pending.waiting;
            if covered && at_once > 0 && waiter.spends_at_once() {
                at_once -= 1;
                replies.push((
                    waiter.reply_to,
                    ReserveResult::Reserved(Reservation::already_spent()),
                ));
                continue;
            }
            match self.reserve(waiter.cost, now) {
                ReserveResult::Unknown if !covered => self.waiting.push_back(waiter),
                ReserveResult::Unknown => {
                    replies.push((waiter.reply_to, ReserveResult::Exhausted(1)))
                }
                result => replies.push((waiter.reply_to, result)),
            }
        }
        replies
    }

    /// Gives up the pending renewal; a late grant does not count. Returns the waiters it covered.
    pub(super) fn abandon_renewal(&mut self) -> Vec<W> {
        let Some(pending) = self.pending.take() else {
            return Vec::new();
        };
        let covered = pending.waiting.min(self.waiting.len());
        self.waiting.drain(..covered).map(|w| w.reply_to).collect()
    }
}
