//! `token_bucket.lua` in Rust, and the world around it: gateways with the real accounts, clocks that
//! differ, messages that are late, lost, or overtaken, gateways that die. All in virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::limits::bucket::{Bucket, Shape};
use crate::limits::lease::{Account, Answer, Found, LIFETIME_MICROS, Question, Ticket};
use crate::limits::terms::Terms;

/// What answers questions: the model, or the real script.
pub(super) trait Store {
    fn ask(&mut self, now: u64, shape: Shape, question: &Question) -> Answer;
}

/// The bucket as Redis holds it.
#[derive(Debug, Default)]
pub(super) struct Model {
    state: Option<Held>,
}

#[derive(Debug)]
struct Held {
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

    /// level + leases, in units: what can be admitted at once, at most.
    pub(super) fn potential(&self, shape: Shape) -> u64 {
        self.state.as_ref().map_or(shape.capacity, |held| {
            held.level + shape.token * held.leases.iter().map(|l| l.tokens).sum::<u64>()
        })
    }
}

impl Store for Model {
    fn ask(&mut self, now: u64, shape: Shape, question: &Question) -> Answer {
        let (mut level, mut leases, mut held) = (question.unknown.min(shape.capacity), vec![], 0);
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
            if let Some(place) = leases.iter().position(|lease| lease.id == question.settled) {
                held = question.kept.min(leases.remove(place).tokens);
            }
        }
        level = level.saturating_sub(question.debt * shape.token);
        let mut granted = 0;
        if question.want == 0 {
            level = room(&leases).min(level + held * shape.token);
        } else {
            let there = level / shape.token;
            if there >= question.least {
                let part = question
                    .want
                    .min(question.least.max(there / question.parts));
                granted = there.min(question.must.max(part));
                level -= granted * shape.token;
            }
            let leased = held + granted - question.spent.min(granted);
            if leased > 0 {
                leases.push(Lease {
                    id: question.lease,
                    expires: now + LIFETIME_MICROS,
                    tokens: leased,
                });
            }
        }
        self.state = Some(Held {
            level,
            at: now,
            token: shape.token,
            leases,
        });
        Answer {
            granted,
            level,
            held,
        }
    }
}

/// What happens in a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    pub(super) gateways: usize,
    /// Requests per second, over all gateways.
    pub(super) load: u64,
    /// Of the load, in per cent, to the first gateway; the others share the rest.
    pub(super) skew: u64,
    /// The load pauses for half of every such time; 0 for never.
    pub(super) bursts: u64,
    /// Messages lost, late beyond the deadline, and gateways that die, of 1,000.
    pub(super) lost: u64,
    pub(super) late: u64,
    pub(super) deaths: u64,
    /// Costs up to this many tokens.
    pub(super) cost: u64,
    /// Of 100 requests, those that another policy may refuse, and does for every third.
    pub(super) shared: u64,
    pub(super) micros: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    Asked(usize, u64),
    Answered(usize, u64),
    GivenUp(usize, u64),
    Idle(usize),
}

struct Call {
    gateway: usize,
    life: u64,
    question: Question,
    answer: Option<(Answer, u64)>,
    answer_is_lost: bool,
}

struct Gateway {
    account: Account<Request>,
    /// Its clock shows so much more, and runs so many millionths faster.
    ahead: u64,
    fast: i64,
    life: u64,
    seen: u64,
}

#[derive(Debug, Clone, Copy)]
struct Request {
    cost: u64,
    alone: bool,
}

pub(super) struct World<S> {
    pub(super) store: S,
    shape: Shape,
    terms: Terms,
    weather: Weather,
    gateways: Vec<Gateway>,
    calls: Vec<Call>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    now: u64,
    number: u64,
    random: u64,
    /// (when, tokens), by the time at which the tokens could first have been used up.
    pub(super) admitted: Vec<(u64, u64)>,
    pub(super) refused: u64,
}

const DEADLINE: u64 = 20_000;
const START: u64 = 1_000_000_000;

impl<S: Store> World<S> {
    pub(super) fn new(store: S, shape: Shape, weather: Weather, seed: u64) -> Self {
        let terms = Terms::new(shape, weather.gateways as u32);
        let mut world = Self {
            store,
            shape,
            terms,
            weather,
            gateways: Vec::new(),
            calls: Vec::new(),
            events: BinaryHeap::new(),
            now: START,
            number: 0,
            random: seed | 1,
            admitted: Vec::new(),
            refused: 0,
        };
        for _ in 0..weather.gateways {
            let gateway = Gateway {
                account: Account::new(shape, terms),
                ahead: world.below(1 << 40),
                fast: world.below(1000) as i64 - 500,
                life: 0,
                seen: 0,
            };
            world.gateways.push(gateway);
        }
        world.at(START, Event::Arrival);
        world
    }

    pub(super) fn run(&mut self) {
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            if at > START + self.weather.micros {
                break;
            }
            self.now = at;
            match event {
                Event::Arrival => self.arrival(),
                Event::Asked(gateway, call) => self.asked(gateway, call as usize),
                Event::Answered(gateway, call) => self.answered(gateway, call as usize),
                Event::GivenUp(gateway, call) => self.given_up(gateway, call as usize),
                Event::Idle(gateway) => self.pump(gateway),
            }
        }
    }

    /// The most tokens that any window held beyond burst + rate·t; 0 when none did.
    pub(super) fn excess(&mut self) -> u64 {
        self.admitted.sort_unstable();
        let mut bucket = Bucket::with_level(self.shape.capacity, START);
        let mut excess = 0;
        for &(at, tokens) in &self.admitted {
            let level = bucket.level_at(self.shape, at);
            let units = self.shape.units(tokens);
            excess = excess.max(units.saturating_sub(level).div_ceil(self.shape.token));
            bucket = Bucket::with_level(level.saturating_sub(units), at);
        }
        excess
    }

    pub(super) fn admitted_tokens(&self) -> u64 {
        self.admitted.iter().map(|(_, tokens)| tokens).sum()
    }

    pub(super) fn questions(&self) -> usize {
        self.calls.len()
    }

    fn arrival(&mut self) {
        let weather = self.weather;
        let gap = 2_000_000 / weather.load.max(1);
        let next = self.now + 1 + self.below(gap.max(1));
        self.at(next, Event::Arrival);
        let pausing = weather.bursts > 0 && (self.now / weather.bursts) % 2 == 1;
        if pausing {
            return;
        }
        let others = weather.gateways as u64 - 1;
        let gateway = if others == 0 || self.below(100) < weather.skew {
            0
        } else {
            1 + self.below(others) as usize
        };
        if self.below(1000) < weather.deaths {
            let dead = &mut self.gateways[gateway];
            dead.account = Account::new(self.shape, self.terms);
            dead.life += 1;
        }
        let cost = 1 + self.below(weather.cost);
        let alone = self.below(100) >= weather.shared;
        self.gateways[gateway].seen += cost;
        let local = self.clock(gateway);
        match self.gateways[gateway].account.take(cost, local) {
            Found::Unknown => {
                let request = Request { cost, alone };
                self.gateways[gateway].account.wait(cost, alone, request);
            }
            found => self.decide(gateway, Request { cost, alone }, found, self.now),
        }
        self.pump(gateway);
    }

    /// What the request does with what it found. `debited`: when the bucket was last debited for it.
    fn decide(&mut self, gateway: usize, request: Request, found: Found, debited: u64) {
        match found {
            Found::Tokens(ticket) if !request.alone && self.below(3) == 0 => {
                self.gateways[gateway].account.put_back(ticket);
            }
            Found::Tokens(ticket) => {
                self.gateways[gateway].account.spend(ticket);
                let at = if ticket == Ticket::spent_at_once() {
                    debited
                } else {
                    self.now
                };
                self.admitted.push((at, request.cost));
            }
            _ => self.refused += 1,
        }
    }

    /// What a keeper does.
    fn pump(&mut self, gateway: usize) {
        let local = self.clock(gateway);
        let running = self.now - START + 1;
        // A rough estimate, sometimes far too high.
        let seen = self.gateways[gateway].seen * 1_000_000 / running.max(100_000);
        let demand = if self.below(20) == 0 { seen * 5 } else { seen };
        self.number += 1;
        let account = &mut self.gateways[gateway].account;
        let question = account.ask(demand as f64, self.number, 0, local);
        let question = question.or_else(|| match account.idle_at(local) {
            _ if account.is_over() => account.hand_back(local),
            Some(idle) if local >= idle => account.hand_back(local),
            _ => None,
        });
        if let Some(question) = question {
            self.send(gateway, question);
        } else if let Some(idle) = self.gateways[gateway].account.idle_at(local) {
            self.at(self.now + (idle - local).max(1_000), Event::Idle(gateway));
        }
    }

    fn send(&mut self, gateway: usize, question: Question) {
        let call = self.calls.len() as u64;
        let (lost, answer_is_lost) = (self.unlucky(), self.unlucky());
        self.calls.push(Call {
            gateway,
            life: self.gateways[gateway].life,
            question,
            answer: None,
            answer_is_lost,
        });
        if !lost {
            let delay = self.delay();
            self.at(self.now + delay, Event::Asked(gateway, call));
        }
        self.at(self.now + DEADLINE, Event::GivenUp(gateway, call));
    }

    fn asked(&mut self, gateway: usize, call: usize) {
        let answer = self
            .store
            .ask(self.now, self.shape, &self.calls[call].question);
        self.calls[call].answer = Some((answer, self.now));
        if !self.calls[call].answer_is_lost {
            let delay = self.delay();
            self.at(self.now + delay, Event::Answered(gateway, call as u64));
        }
    }

    fn answered(&mut self, gateway: usize, call: usize) {
        let local = self.clock(gateway);
        let asked = &mut self.calls[call];
        if asked.life != self.gateways[asked.gateway].life {
            return;
        }
        // Given up already: a late answer does not count.
        let Some((answer, debited)) = asked.answer.take() else {
            return;
        };
        asked.life = u64::MAX;
        let told = self.gateways[gateway].account.answered(answer, local);
        for (request, found) in told {
            self.decide(gateway, request, found, debited);
        }
        self.pump(gateway);
    }

    fn given_up(&mut self, gateway: usize, call: usize) {
        if self.calls[call].life != self.gateways[gateway].life {
            return;
        }
        self.calls[call].life = u64::MAX;
        self.refused += self.gateways[gateway].account.unanswered().len() as u64;
        self.pump(gateway);
    }

    fn clock(&self, gateway: usize) -> u64 {
        let Gateway { ahead, fast, .. } = self.gateways[gateway];
        let running = self.now - START;
        let drift = running as i64 * fast / 1_000_000;
        ahead + running.saturating_add_signed(drift)
    }

    fn delay(&mut self) -> u64 {
        if self.below(1000) < self.weather.late {
            return self.below(100_000);
        }
        50 + self.below(500)
    }

    fn unlucky(&mut self) -> bool {
        self.below(1000) < self.weather.lost
    }

    fn at(&mut self, time: u64, event: Event) {
        self.number += 1;
        self.events.push(Reverse((time, self.number, event)));
    }

    /// xorshift64*: a run is its seed.
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % bound.max(1)
    }
}
