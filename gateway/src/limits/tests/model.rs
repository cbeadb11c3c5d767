//! `token_bucket.lua` in Rust.

use crate::limits::bucket::Shape;
use crate::limits::renewal::{Grant, LIFETIME_MICROS, Renewal};

/// What renewals are sent to: the model, or the real script.
pub(super) trait Store {
    fn ask(&mut self, now: u64, shape: Shape, renewal: &Renewal) -> Grant;
}

/// The bucket as Redis holds it.
#[derive(Debug, Default)]
pub(super) struct Model {
    state: Option<BucketState>,
}

#[derive(Debug)]
struct BucketState {
    level: u64,
    at: u64,
    token: u64,
    leases: Vec<Lease>,
}

#[derive(Debug, Clone)]
struct Lease {
    id: u64,
    expires: u64,
    tokens: u64,
}

impl Model {
    /// Redis has lost its data.
    pub(super) fn reset(&mut self) {
        self.state = None;
    }

    /// Level plus leases, in units: the most that can be admitted at once.
    pub(super) fn potential(&self, shape: Shape) -> u64 {
        self.state.as_ref().map_or(shape.capacity, |held| {
            held.level + shape.token * held.leases.iter().map(|l| l.tokens).sum::<u64>()
        })
    }
}

impl Store for Model {
    fn ask(&mut self, now: u64, shape: Shape, renewal: &Renewal) -> Grant {
        let (mut level, mut leases, mut held) = (renewal.unknown.min(shape.capacity), vec![], 0);
        let room = |leases: &[Lease]| {
            let tokens: u64 = leases.iter().map(|lease| lease.tokens).sum();
            shape.capacity.saturating_sub(tokens * shape.token)
        };
        if let Some(known) = &self.state {
            level = known.level;
            if known.token != shape.token {
                level = (level as f64 / known.token as f64 * shape.token as f64).floor() as u64;
            }
            leases.clone_from(&known.leases);
            for lease in &mut leases {
                lease.expires = lease.expires.min(now + 10_000_000);
            }
            leases.sort_by_key(|lease| lease.expires);
            let mut from = known.at.min(now);
            while leases.first().is_some_and(|first| first.expires <= now) {
                let ends = leases[0].expires;
                level = room(&leases).min(level + ends.saturating_sub(from) * shape.refill);
                from = from.max(ends);
                leases.remove(0);
            }
            level = room(&leases).min(level + (now - from) * shape.refill);
            if let Some(index) = leases.iter().position(|lease| lease.id == renewal.settled) {
                held = renewal.kept.min(leases.remove(index).tokens);
            }
        }
        level = level.saturating_sub(renewal.debt * shape.token);
        let mut granted = 0;
        if renewal.want == 0 {
            level = room(&leases).min(level + held * shape.token);
        } else {
            let available = level / shape.token;
            if available >= renewal.least {
                let part = renewal
                    .want
                    .min(renewal.least.max(available / renewal.parts));
                granted = available.min(renewal.must.max(part));
                level -= granted * shape.token;
            }
            let leased = held + granted - renewal.spent.min(granted);
            if leased > 0 {
                leases.push(Lease {
                    id: renewal.lease,
                    expires: now + LIFETIME_MICROS,
                    tokens: leased,
                });
            }
        }
        self.state = Some(BucketState {
            level,
            at: now,
            token: shape.token,
            leases,
        });
        Grant {
            granted,
            level,
            held,
        }
    }
}
