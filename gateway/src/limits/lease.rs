//! One gateway's account on one bucket: what it may spend without asking, and what it asks for.
//!
//! Pure: it reads no clock and does no I/O, so that tests/leases.rs can drive many of them
//! through losses, delays and crashes. `redis.rs` gives it time and carries its questions to
//! `token_bucket.lua`.
//!
//! Invariants, which together make every window exact:
//! - Tokens are spent only after the bucket was debited for them, and before their lease ends on
//!   this gateway's clock. That end is counted from before the question was sent, so the bucket
//!   believes in the lease for longer.
//! - An unspent token is told to the bucket by the id of its lease, once, and is not spent here
//!   afterwards unless the answer says that it went over into the new lease.
//! - An answer that is lost is a lost lease.

use std::collections::VecDeque;

use super::bucket::{Bucket, Shape};
use super::terms::Terms;

/// How long a bucket believes in a lease.
pub(super) const LIFETIME_MICROS: u64 = 400_000;
/// How long its holder does: clocks differ in speed, by far less than one per cent.
const SPENT_WITHIN_MICROS: u64 = LIFETIME_MICROS - LIFETIME_MICROS / 100;
/// A lease that was not renewed by then is not needed any more.
const IDLE_MICROS: u64 = 240_000;

/// A question to the bucket; the fields are the script's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) shape: Shape,
    pub(super) settled: u64,
    pub(super) kept: u64,
    pub(super) want: u64,
    pub(super) least: u64,
    pub(super) must: u64,
    pub(super) spent: u64,
    pub(super) parts: u64,
    pub(super) lease: u64,
    pub(super) debt: u64,
    /// Units that the bucket holds as far as this gateway knows.
    pub(super) unknown: u64,
}

impl Question {
    /// Does nothing but pay a debt.
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    /// Tokens.
    pub(super) granted: u64,
    /// Units.
    pub(super) level: u64,
    /// Unspent tokens of the settled lease that the bucket still believed in.
    pub(super) held: u64,
}

/// Tokens in the hand of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    cost: u64,
    /// When it was taken, counted in questions; `None` when it cannot be given back.
    question: Option<u64>,
    until: u64,
}

impl Ticket {
    /// The bucket counts it as spent already.
    pub(super) fn spent_at_once() -> Self {
        Self {
            cost: 1,
            question: None,
            until: u64::MAX,
        }
    }

    /// Whether it may still be spent.
    pub(super) fn is_good(&self, now: u64) -> bool {
        now < self.until
    }
}

/// What a request finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Tokens(Ticket),
    /// There are none, and there will be enough in so many microseconds at the earliest.
    Nothing(u64),
    /// Only the bucket knows.
    Unknown,
}

/// A request that waits for an answer. `W` is how it is told.
struct Waiter<W> {
    cost: u64,
    /// No other policy can refuse it: its tokens are spent as soon as they are granted.
    alone: bool,
    tell: W,
}

impl<W> Waiter<W> {
    /// Of tokens at one each, any that come can be spent, whatever the number.
    fn spends_at_once(&self) -> bool {
        self.alone && self.cost == 1
    }
}

/// A question under way.
struct Asking {
    question: Question,
    /// The key has demand enough for a lease.
    hot: bool,
    /// How many of those who wait it is for.
    waiting: usize,
    sent: u64,
}

pub(super) struct Account<W> {
    shape: Shape,
    terms: Terms,
    /// Unspent, on the lease `lease`, which ends at `until`.
    tokens: u64,
    lease: u64,
    until: u64,
    /// Of the last grant: with a quarter of it left, more is asked for.
    granted: u64,
    /// The bucket as it last was, and as nobody but its other users can have changed it.
    bucket: Option<Bucket>,
    /// Few tokens were left: not to be asked before.
    not_before: u64,
    asking: Option<Asking>,
    /// Questions sent, and leases that were lost.
    questions: u64,
    /// Tickets of the lease that are neither spent nor put back.
    in_hands: u64,
    /// The lease was asked for because of demand; else it is over with the requests it was for.
    hot: bool,
    waiting: VecDeque<Waiter<W>>,
}

impl<W> Account<W> {
    pub(super) fn new(shape: Shape, terms: Terms) -> Self {
        Self {
            shape,
            terms,
            tokens: 0,
            lease: 0,
            until: 0,
            granted: 0,
            bucket: None,
            not_before: 0,
            asking: None,
            questions: 0,
            in_hands: 0,
            hot: false,
            waiting: VecDeque::new(),
        }
    }

    /// Follows a changed policy. What is on lease are whole tokens, so it stays, as far as it fits.
    pub(super) fn follow(&mut self, shape: Shape, terms: Terms) {
        if self.shape != shape {
            self.tokens = self.tokens.min(shape.burst());
            if let Some(bucket) = &mut self.bucket {
                bucket.reshape(self.shape, shape);
                bucket.leave_room(shape, self.tokens);
            }
            (self.shape, self.terms) = (shape, terms);
        }
    }

    /// Takes tokens out of the lease, if they are there.
    pub(super) fn take(&mut self, cost: u64, now: u64) -> Found {
        let there = self.unspent(now);
        if there >= cost {
            self.tokens -= cost;
            self.in_hands += 1;
            return Found::Tokens(Ticket {
                cost,
                question: Some(self.questions),
                until: self.until,
            });
        }
        let Some(bucket) = self.bucket else {
            return Found::Unknown;
        };
        let level = bucket.level_at(self.shape, now);
        let lacking = self.shape.units(cost - there);
        let wait = self.shape.micros_until(level, lacking);
        match wait.max(self.not_before.saturating_sub(now)) {
            0 => Found::Unknown,
            wait => Found::Nothing(wait),
        }
    }

    /// Waits for the next answer.
    pub(super) fn wait(&mut self, cost: u64, alone: bool, tell: W) {
        self.waiting.push_back(Waiter { cost, alone, tell });
    }

    /// Takes a ticket back that was not spent. It is lost when the bucket has been told since what was
    /// left of the lease without it.
    pub(super) fn put_back(&mut self, ticket: Ticket) {
        if ticket.question == Some(self.questions) {
            self.tokens += ticket.cost;
            self.in_hands = self.in_hands.saturating_sub(1);
        }
    }

    /// A ticket was spent.
    pub(super) fn spend(&mut self, ticket: Ticket) {
        if ticket.question == Some(self.questions) {
            self.in_hands = self.in_hands.saturating_sub(1);
        }
    }

    /// Whether the bucket should learn what became of a lease that nobody needs any more: while it
    /// believes in one it does not fill up, which of a small bucket is much.
    pub(super) fn is_over(&self) -> bool {
        self.lease != 0
            && !self.hot
            && self.in_hands == 0
            && self.asking.is_none()
            && self.waiting.is_empty()
    }

    /// What this gateway could have at most: its lease, and the bucket as far as it knows.
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

    /// Whether more should be asked for although nobody waits.
    pub(super) fn runs_low(&self, now: u64) -> bool {
        self.asking.is_none()
            && self.terms.leases()
            && self.unspent(now) > 0
            && self.tokens * 4 <= self.granted
            && now >= self.not_before
    }

    /// The next question: for those who wait, and as much as the key's demand (tokens per second)
    /// will use. `None` when there is nothing to ask, or a question is under way.
    pub(super) fn ask(&mut self, demand: f64, lease: u64, debt: u64, now: u64) -> Option<Question> {
        if self.asking.is_some() || (self.waiting.is_empty() && !self.runs_low(now)) {
            return None;
        }
        let must = self.waiting.iter().map(|w| w.cost).sum();
        let demand = self.terms.demand(demand);
        let question = Question {
            want: demand.max(must).max(1),
            least: self.waiting.iter().map(|w| w.cost).min().unwrap_or(1),
            must,
            spent: self.waiting.iter().filter(|w| w.spends_at_once()).count() as u64,
            parts: self.terms.parts(),
            lease,
            debt,
            ..self.settlement(now)
        };
        Some(self.send(question, demand > 1, now))
    }

    /// Ends a lease that is idle or over, and hands back what is unspent of it.
    pub(super) fn hand_back(&mut self, now: u64) -> Option<Question> {
        if self.asking.is_some() || !self.waiting.is_empty() || self.lease == 0 {
            return None;
        }
        let question = self.settlement(now);
        (self.tokens, self.lease) = (0, 0);
        Some(self.send(question, false, now))
    }

    fn settlement(&self, now: u64) -> Question {
        let known = self.bucket.map(|b| b.level_at(self.shape, now));
        Question {
            settled: self.lease,
            kept: if self.lease == 0 { 0 } else { self.tokens },
            unknown: known.unwrap_or(self.shape.capacity),
            ..Question::settlement(0, self.shape)
        }
    }

    fn send(&mut self, question: Question, hot: bool, now: u64) -> Question {
        self.questions += 1;
        self.in_hands = 0;
        if now >= self.until {
            // Not to be spent any more, unless the answer says so.
            self.tokens = 0;
        }
        self.asking = Some(Asking {
            question: question.clone(),
            hot,
            waiting: self.waiting.len(),
            sent: now,
        });
        question
    }

    /// When an unused lease should be handed back; `None` without one.
    pub(super) fn idle_at(&self, now: u64) -> Option<u64> {
        let back = (self.until + IDLE_MICROS).saturating_sub(SPENT_WITHIN_MICROS);
        (self.unspent(now) > 0).then_some(back.max(now))
    }

    /// The bucket has answered. Tells who waited, and who came since as far as that is known.
    pub(super) fn answered(&mut self, answer: Answer, now: u64) -> Vec<(W, Found)> {
        let Some(asking) = self.asking.take() else {
            return Vec::new();
        };
        let question = &asking.question;
        let mut bucket = Bucket::with_level(answer.level, now);
        bucket.reshape(question.shape, self.shape);
        self.bucket = Some(bucket);
        if question.want == 0 {
            return Vec::new();
        }
        if answer.held == 0 {
            self.tokens = 0;
            self.questions += 1;
            self.in_hands = 0;
        } else if asking.sent >= self.until {
            self.tokens = answer.held;
        }
        let mut at_once = question.spent.min(answer.granted);
        self.tokens += answer.granted - at_once;
        let leased = answer.held + answer.granted - at_once;
        self.lease = if leased > 0 { question.lease } else { 0 };
        self.hot = asking.hot;
        self.until = asking.sent + SPENT_WITHIN_MICROS;
        self.granted = answer.granted;
        let few = answer.level < question.shape.units(self.terms.scarce());
        self.not_before = if asking.hot && few {
            now + self.terms.span()
        } else {
            0
        };

        let mut told = Vec::with_capacity(self.waiting.len());
        for (place, waiter) in std::mem::take(&mut self.waiting).into_iter().enumerate() {
            let asked_for = place < asking.waiting;
            if asked_for && at_once > 0 && waiter.spends_at_once() {
                at_once -= 1;
                told.push((waiter.tell, Found::Tokens(Ticket::spent_at_once())));
                continue;
            }
            match self.take(waiter.cost, now) {
                Found::Unknown if !asked_for => self.waiting.push_back(waiter),
                Found::Unknown => told.push((waiter.tell, Found::Nothing(1))),
                found => told.push((waiter.tell, found)),
            }
        }
        told
    }

    /// No answer came, and a late one does not count. Gives back who waited for it.
    pub(super) fn unanswered(&mut self) -> Vec<W> {
        let Some(asking) = self.asking.take() else {
            return Vec::new();
        };
        let asked_for = asking.waiting.min(self.waiting.len());
        self.waiting.drain(..asked_for).map(|w| w.tell).collect()
    }
}
