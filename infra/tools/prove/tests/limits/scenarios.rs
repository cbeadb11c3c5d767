//! The scenarios: the load on two gateways, the faults meanwhile, and the result of each.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::sleep;

use crate::checker::excess;
use crate::clients::{Exchange, Load, admitted, percentile};
use crate::faults::Fault;
use crate::stack::{LIMITS, Limit, RATE, Stack};

/// The result of one scenario.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) sent: usize,
    pub(crate) admitted: usize,
    pub(crate) refused: usize,
    /// Answers other than 200 and 429, from gateways that were not killed.
    pub(crate) failed: usize,
    /// The admitted requests in percent of burst + rate·t, if more were sent.
    pub(crate) tight_percent: Option<f64>,
    /// The most requests beyond burst + rate·t in any window, and how many the contract allows.
    pub(crate) excess: f64,
    pub(crate) allowed: f64,
    /// The same for windows that begin at least two seconds after the fault.
    pub(crate) excess_afterwards: Option<f64>,
    /// Redis commands for each admitted request; `None` if they were not counted.
    pub(crate) commands_per_admitted: Option<f64>,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// For requests from 100 ms after the fault began until it ended.
    pub(crate) p99_in_fault_ms: Option<f64>,
    /// (second, admitted so far), for the chart.
    #[serde(skip)]
    pub(crate) course: Vec<(f64, f64)>,
    #[serde(skip)]
    pub(crate) bound: (f64, f64),
}

/// A scenario without a fault: how the load is distributed over the two gateways.
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) limit: &'static str,
    pub(crate) path: &'static str,
    pub(crate) keys: usize,
    /// Requests per second at each gateway.
    pub(crate) loads: [f64; 2],
    pub(crate) pause: Duration,
    /// Whether exactly burst + rate·t should be admitted for one key.
    pub(crate) full: bool,
}

/// All scenarios without a fault.
pub(crate) fn plans() -> Vec<Plan> {
    let rate = RATE as f64;
    let plan = |name, limit, path, loads| Plan {
        name,
        limit,
        path,
        keys: 1,
        loads,
        pause: Duration::ZERO,
        full: true,
    };
    vec![
        plan(
            "steady, 3 x the limit",
            "hot",
            "/hot",
            [rate * 1.5, rate * 1.5],
        ),
        plan(
            "skewed 90:10, 3 x the limit",
            "hot",
            "/hot",
            [rate * 2.7, rate * 0.3],
        ),
        plan(
            "burst of 0.2 s, 3 x the limit",
            "tight",
            "/tight",
            [rate * 1.5, rate * 1.5],
        ),
        Plan {
            pause: Duration::from_millis(500),
            full: false,
            ..plan(
                "half a second on, half off",
                "hot",
                "/hot",
                [rate * 1.5, rate * 1.5],
            )
        },
        Plan {
            full: false,
            ..plan("0.8 x the limit", "hot", "/hot", [rate * 0.4, rate * 0.4])
        },
        Plan {
            keys: 500,
            full: false,
            ..plan(
                "500 keys, each below its limit",
                "user",
                "/user",
                [rate * 0.5, rate * 0.5],
            )
        },
        Plan {
            full: false,
            ..plan("empty, hammered", "slow", "/slow", [rate * 0.5, rate * 0.5])
        },
        Plan {
            full: false,
            ..plan(
                "two policies, one refuses",
                "slow",
                "/both",
                [rate * 0.5, rate * 0.5],
            )
        },
    ]
}

pub(crate) struct Proof {
    pub(crate) stack: Stack,
    pub(crate) epoch: Instant,
    pub(crate) seconds: f64,
    next_key: u32,
}

impl Proof {
    pub(crate) async fn new(seconds: f64) -> Self {
        Self {
            stack: Stack::start().await,
            epoch: Instant::now(),
            seconds,
            next_key: 0,
        }
    }

    /// Client addresses that were not used before.
    fn keys(&mut self, count: usize) -> Vec<String> {
        (0..count)
            .map(|_| {
                self.next_key += 1;
                let [_, a, b, c] = self.next_key.to_be_bytes();
                format!("100.{a}.{b}.{c}")
            })
            .collect()
    }

    pub(crate) fn loads(
        &mut self,
        path: &'static str,
        keys: usize,
        per_second: [f64; 2],
        time: Duration,
        pause: Duration,
    ) -> Vec<Load> {
        let keys = self.keys(keys);
        let gateways = self.stack.gateways.iter().enumerate();
        gateways
            .zip(per_second)
            .map(|((gateway, to), per_second)| Load {
                gateway,
                address: to.http,
                path,
                keys: keys.clone(),
                per_second,
                time,
                pause,
            })
            .collect()
    }

    pub(crate) async fn run_plan(&mut self, plan: &Plan) -> Line {
        let time = Duration::from_secs_f64(self.seconds);
        let loads = self.loads(plan.path, plan.keys, plan.loads, time, plan.pause);
        let before = self.stack.commands().await;
        let exchanges = send_all(loads, self.epoch).await;
        let after = self.stack.commands().await;
        let limit = limit(plan.limit);
        let commands = after.0 - before.0;
        let mut line = self.line(plan.name.to_owned(), limit, &exchanges, Some(commands));
        if after.1 > before.1 {
            // The machine was so busy that Redis missed its deadline, which counts as an outage.
            line.allowed = limit.burst as f64;
        }
        if plan.keys > 1 {
            // Each key has its own limit, and stays far below it: no request may be refused.
            line.excess = 0.0;
        }
        if plan.full {
            let ideal = limit.burst as f64 + limit.rate as f64 * duration(&exchanges);
            line.tight_percent = Some(line.admitted as f64 * 100.0 / ideal);
        }
        line
    }

    /// Load at 1.5 x the limit, with a fault that begins after a third of the time.
    pub(crate) async fn run_fault(&mut self, fault: Fault) -> Line {
        let (begin, lasts) = (self.seconds / 3.0, (self.seconds / 4.0).min(2.0));
        let time = Duration::from_secs_f64(begin + lasts + 3.0 + self.seconds / 3.0);
        let each = RATE as f64 * 0.75;
        let loads = self.loads("/hot", 1, [each, each], time, Duration::ZERO);
        let before = self.stack.commands().await;
        let sending = tokio::spawn(send_all(loads, self.epoch));
        sleep(Duration::from_secs_f64(begin)).await;
        let began = self.micros();
        fault.begin(&mut self.stack).await;
        sleep(Duration::from_secs_f64(lasts)).await;
        fault.end(&mut self.stack).await;
        let ended = self.micros();
        let exchanges = sending.await.unwrap();
        self.stack.wait_for_redis().await;
        let killed = fault == Fault::GatewayKilled;
        let after = self.stack.commands().await;
        let commands = (!killed).then(|| after.0 - before.0);

        let limit = limit("hot");
        let mut line = self.line(fault.name().to_owned(), limit, &exchanges, commands);
        let seconds = (ended - began) as f64 / 1e6;
        line.allowed = fault.allows(limit, seconds);
        line.excess_afterwards = Some(
            excess(
                &admitted(&exchanges),
                limit.per_minute(),
                limit.burst,
                ended + 2_000_000,
            )
            .max(0.0),
        );
        let meanwhile = exchanges
            .iter()
            .filter(|s| s.sent > began + 100_000 && s.sent < ended);
        let meanwhile: Vec<Exchange> = meanwhile.filter(|s| s.status != 0).copied().collect();
        line.p99_in_fault_ms = Some(percentile(&meanwhile, 0.99));
        let calm: Vec<Exchange> = exchanges
            .iter()
            .filter(|s| s.sent < began)
            .copied()
            .collect();
        (line.p50_ms, line.p99_ms) = (percentile(&calm, 0.5), percentile(&calm, 0.99));
        if killed {
            let others = exchanges.iter().filter(|s| s.gateway != 0);
            line.failed = others.filter(|s| !matches!(s.status, 200 | 429)).count();
        }
        line
    }

    /// Users below their limit through a long outage. Also returns how many of their requests are refused
    /// from one second after the outage on.
    pub(crate) async fn run_outage(&mut self, outage: Duration) -> (Line, usize) {
        let time = outage + Duration::from_secs(6);
        let users = 4;
        // 16/s each, of 20/s.
        let each = 16.0 * users as f64 / 2.0;
        let loads = self.loads("/honest", users, [each, each], time, Duration::ZERO);
        let sending = tokio::spawn(send_all(loads, self.epoch));
        sleep(Duration::from_secs(1)).await;
        self.stack.redis.pause();
        sleep(outage).await;
        self.stack.redis.resume();
        let back = self.micros();
        let exchanges = sending.await.unwrap();
        self.stack.wait_for_redis().await;
        let late = exchanges.iter().filter(|s| s.sent > back + 1_000_000);
        let locked_out = late.filter(|s| s.status != 200).count();
        let name = format!("honest users, Redis away for {} s", outage.as_secs());
        let mut line = self.line(name, limit("honest"), &exchanges, None);
        (line.excess, line.allowed) = (0.0, 0.0);
        (line, locked_out)
    }

    fn micros(&self) -> u64 {
        self.epoch.elapsed().as_micros() as u64
    }

    fn line(
        &self,
        name: String,
        limit: &Limit,
        exchanges: &[Exchange],
        commands: Option<u64>,
    ) -> Line {
        let passed = admitted(exchanges);
        let first = exchanges.iter().map(|s| s.sent).min().unwrap_or(0);
        let mut times: Vec<f64> = passed
            .iter()
            .map(|a| (a.answered - first) as f64 / 1e6)
            .collect();
        times.sort_by(f64::total_cmp);
        let step = (times.len() / 400).max(1);
        let course = times.iter().enumerate().step_by(step);
        Line {
            name,
            sent: exchanges.len(),
            admitted: passed.len(),
            refused: exchanges.iter().filter(|s| s.status == 429).count(),
            failed: exchanges
                .iter()
                .filter(|s| !matches!(s.status, 200 | 429))
                .count(),
            tight_percent: None,
            excess: excess(&passed, limit.per_minute(), limit.burst, 0).max(0.0),
            allowed: 0.0,
            excess_afterwards: None,
            commands_per_admitted: commands.map(|sent| sent as f64 / passed.len().max(1) as f64),
            p50_ms: percentile(exchanges, 0.5),
            p99_ms: percentile(exchanges, 0.99),
            p99_in_fault_ms: None,
            course: course
                .map(|(count, at)| (*at, count as f64 + 1.0))
                .collect(),
            bound: (limit.burst as f64, limit.per_minute() as f64 / 60.0),
        }
    }
}

/// Sends all loads at the same time, until they are done.
pub(crate) async fn send_all(loads: Vec<Load>, epoch: Instant) -> Vec<Exchange> {
    let sending = loads.into_iter().map(|load| load.send(epoch));
    join_all(sending).await.concat()
}

/// From the first request to the last answer, in seconds.
fn duration(exchanges: &[Exchange]) -> f64 {
    let first = exchanges.iter().map(|s| s.sent).min().unwrap_or(0);
    let last = exchanges.iter().map(|s| s.answered).max().unwrap_or(0);
    (last - first) as f64 / 1e6
}

fn limit(name: &str) -> &'static Limit {
    LIMITS.iter().find(|limit| limit.name == name).unwrap()
}
