//! Leases in a simulation, first with a model of the script and then with the script itself.

use proptest::prelude::*;
use testkit::shared_redis;

use super::model::{Model, Store};
use super::simulation::{Scenario, Simulation};
use super::{MINUTE, SECOND};
use crate::config::Rate;
use crate::limits::bucket::Shape;
use crate::limits::client;
use crate::limits::renewal::{Grant, Renewal};

fn shape(tokens: u32, per: std::time::Duration, burst: u32) -> Shape {
    Shape::new(Rate { tokens, per }, burst).unwrap()
}

fn shapes() -> impl Strategy<Value = Shape> {
    prop_oneof![
        (20u32..5_000, 10u32..3_000).prop_map(|(rate, burst)| shape(rate, SECOND, burst)),
        (1u32..600, 10u32..50).prop_map(|(rate, burst)| shape(rate, MINUTE, burst)),
    ]
}

fn scenarios() -> impl Strategy<Value = Scenario> {
    let load = (
        1usize..5,
        10u64..12_000,
        0u64..100,
        prop_oneof![Just(0u64), 50_000u64..900_000],
    );
    let faults = (0u64..60, 0u64..60, 0u64..3, 1u64..6, 0u64..60);
    (load, faults).prop_map(
        |((gateways, load, skew, bursts), (lost, late, deaths, cost, shared))| Scenario {
            gateways,
            load,
            skew,
            bursts,
            lost,
            late,
            deaths,
            cost,
            shared,
            micros: 2_000_000,
        },
    )
}

const NO_FAULTS: Scenario = Scenario {
    gateways: 2,
    load: 3_000,
    skew: 50,
    bursts: 0,
    lost: 0,
    late: 0,
    deaths: 0,
    cost: 1,
    shared: 0,
    micros: 10_000_000,
};

/// Sends each renewal to both and compares their grants.
struct Both {
    model: Model,
    script: Script,
}

struct Script {
    redis: redis::Connection,
    source: String,
    key: String,
}

impl Script {
    /// The real script, but with virtual time as its clock, and without expiry in real time.
    fn new(url: &str, key: String) -> Self {
        let source = include_str!("../token_bucket.lua")
            .replace(
                "redis.call('TIME')",
                "{math.floor(ARGV[15] / 1000000), ARGV[15] % 1000000}",
            )
            .replace("redis.call('PEXPIRE', ", "tostring(");
        assert!(!source.contains("TIME') ") && source.contains("ARGV[15]"));
        let redis = redis::Client::open(url).unwrap().get_connection().unwrap();
        Self { redis, source, key }
    }
}

impl Store for Script {
    fn ask(&mut self, now: u64, _: Shape, renewal: &Renewal) -> Grant {
        let mut command = redis::cmd("EVAL");
        command.arg(&self.source).arg(1).arg(&self.key);
        client::arguments(renewal, &mut |argument| {
            command.arg(argument);
        });
        let reply = command.arg(now).query(&mut self.redis).unwrap();
        client::parse_grant(&reply).unwrap()
    }
}

impl Store for Both {
    fn ask(&mut self, now: u64, shape: Shape, renewal: &Renewal) -> Grant {
        let grant = self.model.ask(now, shape, renewal);
        assert_eq!(self.script.ask(now, shape, renewal), grant, "{renewal:?}");
        grant
    }
}

/// A model that checks the script's invariant at every step.
#[derive(Default)]
struct Checked(Model);

impl Store for Checked {
    fn ask(&mut self, now: u64, shape: Shape, renewal: &Renewal) -> Grant {
        let grant = self.0.ask(now, shape, renewal);
        assert!(self.0.potential(shape) <= shape.capacity);
        grant
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Messages are late or lost, gateways crash, clocks differ, costs vary and other policies refuse;
    /// still no window holds more than burst + rate·t.
    #[test]
    fn no_window_ever_holds_more_than_burst_plus_rate_times_t(
        shape in shapes(),
        scenario in scenarios(),
        seed in any::<u64>(),
    ) {
        let mut simulation = Simulation::new(Checked::default(), shape, scenario, seed);
        simulation.run();
        prop_assert_eq!(simulation.excess(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_is_the_model_in_every_step() {
    let redis = shared_redis().await;
    let (url, prefix) = (redis.url(), redis.key_prefix());
    tokio::task::spawn_blocking(move || {
        let run = std::cell::Cell::new(0);
        let config = ProptestConfig::with_cases(40);
        proptest!(config, |(shape in shapes(), mut scenario in scenarios(), seed in any::<u64>())| {
            run.set(run.get() + 1);
            scenario.micros = 1_000_000;
            let script = Script::new(&url, format!("{prefix}:{}", run.get()));
            let both = Both { model: Model::default(), script };
            let mut simulation = Simulation::new(both, shape, scenario, seed);
            simulation.run();
            prop_assert_eq!(simulation.excess(), 0);
        });
    })
    .await
    .unwrap();
}

/// At three times the limit, 99 % of burst + rate·t are admitted, at 20 or more tokens per renewal.
#[test]
fn at_three_times_the_limit_hardly_a_token_is_lost() {
    for (rate, burst) in [(1_000, 200), (1_000, 1_000), (2_000, 4_000), (5_000, 1_000)] {
        for skew in [50, 90] {
            for gateways in [1, 2, 3] {
                let shape = shape(rate, SECOND, burst);
                let scenario = Scenario {
                    load: u64::from(rate) * 3,
                    skew: if gateways == 3 { 34 } else { skew },
                    gateways,
                    ..NO_FAULTS
                };
                let mut simulation = Simulation::new(Checked::default(), shape, scenario, 7);
                simulation.run();
                let ideal = u64::from(burst) + u64::from(rate) * scenario.micros / 1_000_000;
                let (passed, sent) = (simulation.admitted_tokens(), simulation.renewals() as u64);
                let case = format!("{rate}/s, {burst}, {gateways} gateways, {skew} %");
                assert_eq!(simulation.excess(), 0, "{case}");
                assert!(passed * 100 >= ideal * 99, "{passed} of {ideal}: {case}");
                assert!(sent * 20 <= passed, "{sent} renewals for {passed}: {case}");
            }
        }
    }
}

/// Below the limit no request is refused, and a hot key needs few renewals there, too.
#[test]
fn below_the_limit_nobody_is_refused() {
    let (rate, burst) = (2_000, 1_000);
    let scenario = Scenario {
        load: 1_200,
        ..NO_FAULTS
    };
    let mut simulation =
        Simulation::new(Checked::default(), shape(rate, SECOND, burst), scenario, 7);
    simulation.run();
    assert_eq!(simulation.refused, 0);
    let (passed, sent) = (simulation.admitted_tokens(), simulation.renewals() as u64);
    assert!(sent * 20 <= passed, "{sent} renewals for {passed}");
}

/// A pause costs no more tokens than flow in within two periods: a bucket cannot refill for tokens on
/// lease, and the last lease before a pause is handed back late.
#[test]
fn a_pause_costs_few_tokens() {
    let scenario = Scenario {
        load: 3_000,
        bursts: 500_000,
        ..NO_FAULTS
    };
    let mut simulation =
        Simulation::new(Checked::default(), shape(1_000, SECOND, 200), scenario, 7);
    simulation.run();
    // Ten times half a second of load, each of which starts with a full bucket.
    let ideal = 10 * (200 + 500);
    let passed = simulation.admitted_tokens();
    assert!(passed + 10 * 2 * 60 >= ideal, "{passed} of {ideal}");
}

/// A burst that is spread over the gateways gets every token of a small bucket.
#[test]
fn of_a_small_burst_no_token_lies_where_it_is_not_needed() {
    let scenario = Scenario {
        load: 2_000,
        micros: 100_000,
        ..NO_FAULTS
    };
    let mut simulation = Simulation::new(Checked::default(), shape(1, MINUTE, 60), scenario, 7);
    simulation.run();
    assert_eq!(simulation.admitted_tokens(), 60);
}

/// When Redis loses its data, at most one extra burst is admitted, and none by gateways that know the key.
#[test]
fn a_reset_grants_nothing_to_who_has_just_been_seen() {
    let shape = shape(100, SECOND, 200);
    let scenario = Scenario {
        gateways: 1,
        micros: 1_000_000,
        ..NO_FAULTS
    };
    let mut simulation = Simulation::new(ResetOften::default(), shape, scenario, 7);
    simulation.run();
    assert!(simulation.store.resets > 3);
    assert_eq!(simulation.excess(), 0);
}

#[derive(Default)]
struct ResetOften {
    model: Model,
    sent: u64,
    resets: u64,
}

impl Store for ResetOften {
    fn ask(&mut self, now: u64, shape: Shape, renewal: &Renewal) -> Grant {
        self.sent += 1;
        if self.sent.is_multiple_of(7) {
            self.resets += 1;
            self.model.reset();
        }
        self.model.ask(now, shape, renewal)
    }
}
