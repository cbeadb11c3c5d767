//! Gateways with real accounts in virtual time, and everything that can go wrong around them: clocks
//! that differ, messages that are late, lost or reordered, and gateways that crash.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::model::Store;
use crate::limits::bucket::{Bucket, Shape};
use crate::limits::lease::{Account, Reservation, ReserveResult};
use crate::limits::renewal::{Grant, Renewal};
use crate::limits::sizing::LeaseSizing;

/// The load and the faults of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scenario {
    pub(super) gateways: usize,
    /// Requests per second, over all gateways.
    pub(super) load: u64,
    /// Per cent of the load that goes to the first gateway; the others share the rest.
    pub(super) skew: u64,
    /// In every second interval of this length (in microseconds) there is no load; 0 for no pauses.
    pub(super) bursts: u64,
    /// Out of 1,000: messages lost, messages later than the deadline, and requests at which their
    /// gateway crashes.
    pub(super) lost: u64,
    pub(super) late: u64,
    pub(super) deaths: u64,
    /// The most tokens that a request costs.
    pub(super) cost: u64,
    /// Out of 100: requests to which another policy applies as well. It refuses a third of them.
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
    generation: u64,
    renewal: Renewal,
    grant: Option<(Grant, u64)>,
    answer_is_lost: bool,
}

struct Gateway {
    account: Account<Request>,
    /// How far its clock is ahead, and by how many millionths it runs faster.
    ahead: u64,
    fast: i64,
    generation: u64,
    seen: u64,
}

#[derive(Debug, Clone, Copy)]
struct Request {
    cost: u64,
    alone: bool,
}

pub(super) struct Simulation<S> {
    pub(super) store: S,
    shape: Shape,
    sizing: LeaseSizing,
    scenario: Scenario,
    gateways: Vec<Gateway>,
    calls: Vec<Call>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    now: u64,
    number: u64,
    random: u64,
    /// (time, tokens): when each admitted request took its tokens out of the bucket or the lease.
    pub(super) admitted: Vec<(u64, u64)>,
    pub(super) refused: u64,
}

const DEADLINE: u64 = 20_000;
const START: u64 = 1_000_000_000;

impl<S: Store> Simulation<S> {
    pub(super) fn new(store: S, shape: Shape, scenario: Scenario, seed: u64) -> Self {
        let sizing = LeaseSizing::new(shape, scenario.gateways as u32);
        let mut simulation = Self {
            store,
            shape,
            sizing,
            scenario,
            gateways: Vec::new(),
            calls: Vec::new(),
            events: BinaryHeap::new(),
            now: START,
            number: 0,
            random: seed | 1,
            admitted: Vec::new(),
            refused: 0,
        };
        for _ in 0..scenario.gateways {
            let gateway = Gateway {
                account: Account::new(shape, sizing),
                ahead: simulation.below(1 << 40),
                fast: simulation.below(1000) as i64 - 500,
                generation: 0,
                seen: 0,
            };
            simulation.gateways.push(gateway);
        }
        simulation.at(START, Event::Arrival);
        simulation
    }

    pub(super) fn run(&mut self) {
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            if at > START + self.scenario.micros {
                break;
            }
            self.now = at;
            match event {
                Event::Arrival => self.arrival(),
                Event::Asked(gateway, call) => self.asked(gateway, call as usize),
                Event::Answered(gateway, call) => self.granted(gateway, call as usize),
                Event::GivenUp(gateway, call) => self.given_up(gateway, call as usize),
                Event::Idle(gateway) => self.run_renewer(gateway),
            }
        }
    }

    /// The most tokens by which any window exceeded burst + rate·t; 0 when none did.
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

    pub(super) fn renewals(&self) -> usize {
        self.calls.len()
    }

    fn arrival(&mut self) {
        let scenario = self.scenario;
        let gap = 2_000_000 / scenario.load.max(1);
        let next = self.now + 1 + self.below(gap.max(1));
        self.at(next, Event::Arrival);
        let pausing = scenario.bursts > 0 && (self.now / scenario.bursts) % 2 == 1;
        if pausing {
            return;
        }
        let others = scenario.gateways as u64 - 1;
        let gateway = if others == 0 || self.below(100) < scenario.skew {
            0
        } else {
            1 + self.below(others) as usize
        };
        if self.below(1000) < scenario.deaths {
            let dead = &mut self.gateways[gateway];
            dead.account = Account::new(self.shape, self.sizing);
            dead.generation += 1;
        }
        let cost = 1 + self.below(scenario.cost);
        let alone = self.below(100) >= scenario.shared;
        self.gateways[gateway].seen += cost;
        let local = self.clock(gateway);
        match self.gateways[gateway].account.reserve(cost, local) {
            ReserveResult::Unknown => {
                let request = Request { cost, alone };
                self.gateways[gateway].account.wait(cost, alone, request);
            }
            result => self.decide(gateway, Request { cost, alone }, result, self.now),
        }
        self.run_renewer(gateway);
    }

    /// What a request does with its result. `debited` is when the bucket was last debited for it.
    fn decide(&mut self, gateway: usize, request: Request, result: ReserveResult, debited: u64) {
        match result {
            ReserveResult::Reserved(reservation) if !request.alone && self.below(3) == 0 => {
                self.gateways[gateway].account.release(reservation);
            }
            ReserveResult::Reserved(reservation) => {
                self.gateways[gateway].account.spend(reservation);
                let at = if reservation == Reservation::already_spent() {
                    debited
                } else {
                    self.now
                };
                self.admitted.push((at, request.cost));
            }
            _ => self.refused += 1,
        }
    }

    /// What a renewer does.
    fn run_renewer(&mut self, gateway: usize) {
        let local = self.clock(gateway);
        let running = self.now - START + 1;
        // A rough estimate, sometimes far too high.
        let seen = self.gateways[gateway].seen * 1_000_000 / running.max(100_000);
        let demand = if self.below(20) == 0 { seen * 5 } else { seen };
        self.number += 1;
        let account = &mut self.gateways[gateway].account;
        let renewal = account.next_renewal(demand as f64, self.number, 0, local);
        let renewal = renewal.or_else(|| match account.idle_at(local) {
            _ if account.is_over() => account.hand_back(local),
            Some(idle) if local >= idle => account.hand_back(local),
            _ => None,
        });
        if let Some(renewal) = renewal {
            self.send(gateway, renewal);
        } else if let Some(idle) = self.gateways[gateway].account.idle_at(local) {
            self.at(self.now + (idle - local).max(1_000), Event::Idle(gateway));
        }
    }

    fn send(&mut self, gateway: usize, renewal: Renewal) {
        let call = self.calls.len() as u64;
        let (lost, answer_is_lost) = (self.is_lost(), self.is_lost());
        self.calls.push(Call {
            gateway,
            generation: self.gateways[gateway].generation,
            renewal,
            grant: None,
            answer_is_lost,
        });
        if !lost {
            let delay = self.delay();
            self.at(self.now + delay, Event::Asked(gateway, call));
        }
        self.at(self.now + DEADLINE, Event::GivenUp(gateway, call));
    }

    fn asked(&mut self, gateway: usize, call: usize) {
        let grant = self
            .store
            .ask(self.now, self.shape, &self.calls[call].renewal);
        self.calls[call].grant = Some((grant, self.now));
        if !self.calls[call].answer_is_lost {
            let delay = self.delay();
            self.at(self.now + delay, Event::Answered(gateway, call as u64));
        }
    }

    fn granted(&mut self, gateway: usize, call: usize) {
        let local = self.clock(gateway);
        let call = &mut self.calls[call];
        if call.generation != self.gateways[call.gateway].generation {
            return;
        }
        // The renewal was given up, so a late grant does not count.
        let Some((grant, debited)) = call.grant.take() else {
            return;
        };
        call.generation = u64::MAX;
        let replies = self.gateways[gateway].account.apply_grant(grant, local);
        for (request, result) in replies {
            self.decide(gateway, request, result, debited);
        }
        self.run_renewer(gateway);
    }

    fn given_up(&mut self, gateway: usize, call: usize) {
        if self.calls[call].generation != self.gateways[gateway].generation {
            return;
        }
        self.calls[call].generation = u64::MAX;
        self.refused += self.gateways[gateway].account.abandon_renewal().len() as u64;
        self.run_renewer(gateway);
    }

    fn clock(&self, gateway: usize) -> u64 {
        let Gateway { ahead, fast, .. } = self.gateways[gateway];
        let running = self.now - START;
        let drift = running as i64 * fast / 1_000_000;
        ahead + running.saturating_add_signed(drift)
    }

    fn delay(&mut self) -> u64 {
        if self.below(1000) < self.scenario.late {
            return self.below(100_000);
        }
        50 + self.below(500)
    }

    fn is_lost(&mut self) -> bool {
        self.below(1000) < self.scenario.lost
    }

    fn at(&mut self, time: u64, event: Event) {
        self.number += 1;
        self.events.push(Reverse((time, self.number, event)));
    }

    /// xorshift64*, so that a seed always gives the same run.
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % bound.max(1)
    }
}
