//! What is done to two gateways and their Redis, and what came of it.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::sleep;

use crate::checker::excess;
use crate::clients::{Load, Shot, admitted, percentile};
use crate::faults::Fault;
use crate::stack::{LIMITS, Limit, RATE, Stack};

/// One line of the result.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) sent: usize,
    pub(crate) admitted: usize,
    pub(crate) refused: usize,
    /// Neither 200 nor 429, at gateways that were not killed.
    pub(crate) failed: usize,
    /// Of burst + rate·t, where more was asked for.
    pub(crate) tight_percent: Option<f64>,
    /// The most that a window held beyond burst + rate·t, and what the contract allows.
    pub(crate) excess: f64,
    pub(crate) allowed: f64,
    /// Beyond burst + rate·t in windows that begin two seconds after the fault or later.
    pub(crate) excess_afterwards: Option<f64>,
    /// `None` where it was not counted.
    pub(crate) commands_per_admitted: Option<f64>,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// From 100 ms after the fault began to its end.
    pub(crate) p99_in_fault_ms: Option<f64>,
    /// (second, admitted so far), for the picture.
    #[serde(skip)]
    pub(crate) course: Vec<(f64, f64)>,
    #[serde(skip)]
    pub(crate) bound: (f64, f64),
}

/// How the load falls on the two gateways.
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) limit: &'static str,
    pub(crate) path: &'static str,
    pub(crate) keys: usize,
    /// Requests per second at each gateway.
    pub(crate) loads: [f64; 2],
    pub(crate) pause: Duration,
    /// Whether burst + rate·t of one key is what should come out.
    pub(crate) full: bool,
}

/// Everything without a fault.
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

    /// Addresses that nobody has used.
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

    pub(crate) async fn plain(&mut self, plan: &Plan) -> Line {
        let time = Duration::from_secs_f64(self.seconds);
        let loads = self.loads(plan.path, plan.keys, plan.loads, time, plan.pause);
        let before = self.stack.commands().await;
        let shots = fire(loads, self.epoch).await;
        let after = self.stack.commands().await;
        let limit = limit(plan.limit);
        let commands = after.0 - before.0;
        let mut line = self.line(plan.name.to_owned(), limit, &shots, Some(commands));
        if after.1 > before.1 {
            // The machine was so busy that Redis missed its deadline: that was an outage.
            line.allowed = limit.burst as f64;
        }
        if plan.keys > 1 {
            // Each key has its own limit, and none comes near it: nobody may be refused.
            line.excess = 0.0;
        }
        if plan.full {
            let ideal = limit.burst as f64 + limit.rate as f64 * lasted(&shots);
            line.tight_percent = Some(line.admitted as f64 * 100.0 / ideal);
        }
        line
    }

    /// Load at 1.5 x the limit through a fault that begins after a third of the time.
    pub(crate) async fn faulty(&mut self, fault: Fault) -> Line {
        let (begin, lasts) = (self.seconds / 3.0, (self.seconds / 4.0).min(2.0));
        let time = Duration::from_secs_f64(begin + lasts + 3.0 + self.seconds / 3.0);
        let each = RATE as f64 * 0.75;
        let loads = self.loads("/hot", 1, [each, each], time, Duration::ZERO);
        let before = self.stack.commands().await;
        let firing = tokio::spawn(fire(loads, self.epoch));
        sleep(Duration::from_secs_f64(begin)).await;
        let begun = self.micros();
        fault.begin(&mut self.stack).await;
        sleep(Duration::from_secs_f64(lasts)).await;
        fault.end(&mut self.stack).await;
        let ended = self.micros();
        let shots = firing.await.unwrap();
        self.stack.exact().await;
        let killed = fault == Fault::GatewayKilled;
        let after = self.stack.commands().await;
        let commands = (!killed).then(|| after.0 - before.0);

        let limit = limit("hot");
        let mut line = self.line(fault.name().to_owned(), limit, &shots, commands);
        let seconds = (ended - begun) as f64 / 1e6;
        line.allowed = fault.allows(limit, seconds);
        line.excess_afterwards = Some(
            excess(
                &admitted(&shots),
                limit.per_minute(),
                limit.burst,
                ended + 2_000_000,
            )
            .max(0.0),
        );
        let meanwhile = shots
            .iter()
            .filter(|s| s.sent > begun + 100_000 && s.sent < ended);
        let meanwhile: Vec<Shot> = meanwhile.filter(|s| s.status != 0).copied().collect();
        line.p99_in_fault_ms = Some(percentile(&meanwhile, 0.99));
        let calm: Vec<Shot> = shots.iter().filter(|s| s.sent < begun).copied().collect();
        (line.p50_ms, line.p99_ms) = (percentile(&calm, 0.5), percentile(&calm, 0.99));
        if killed {
            let others = shots.iter().filter(|s| s.gateway != 0);
            line.failed = others.filter(|s| !matches!(s.status, 200 | 429)).count();
        }
        line
    }

    /// Users below their limit through a long outage: how many are refused from a second after it on.
    pub(crate) async fn outage(&mut self, outage: Duration) -> (Line, usize) {
        let time = outage + Duration::from_secs(6);
        let users = 4;
        // 16/s each, of 20/s.
        let each = 16.0 * users as f64 / 2.0;
        let loads = self.loads("/honest", users, [each, each], time, Duration::ZERO);
        let firing = tokio::spawn(fire(loads, self.epoch));
        sleep(Duration::from_secs(1)).await;
        self.stack.redis.pause();
        sleep(outage).await;
        self.stack.redis.resume();
        let back = self.micros();
        let shots = firing.await.unwrap();
        self.stack.exact().await;
        let late = shots.iter().filter(|s| s.sent > back + 1_000_000);
        let locked_out = late.filter(|s| s.status != 200).count();
        let name = format!("honest users, Redis away for {} s", outage.as_secs());
        let mut line = self.line(name, limit("honest"), &shots, None);
        (line.excess, line.allowed) = (0.0, 0.0);
        (line, locked_out)
    }

    fn micros(&self) -> u64 {
        self.epoch.elapsed().as_micros() as u64
    }

    fn line(&self, name: String, limit: &Limit, shots: &[Shot], commands: Option<u64>) -> Line {
        let passed = admitted(shots);
        let first = shots.iter().map(|s| s.sent).min().unwrap_or(0);
        let mut times: Vec<f64> = passed
            .iter()
            .map(|a| (a.answered - first) as f64 / 1e6)
            .collect();
        times.sort_by(f64::total_cmp);
        let every = (times.len() / 400).max(1);
        let course = times.iter().enumerate().step_by(every);
        Line {
            name,
            sent: shots.len(),
            admitted: passed.len(),
            refused: shots.iter().filter(|s| s.status == 429).count(),
            failed: shots
                .iter()
                .filter(|s| !matches!(s.status, 200 | 429))
                .count(),
            tight_percent: None,
            excess: excess(&passed, limit.per_minute(), limit.burst, 0).max(0.0),
            allowed: 0.0,
            excess_afterwards: None,
            commands_per_admitted: commands.map(|sent| sent as f64 / passed.len().max(1) as f64),
            p50_ms: percentile(shots, 0.5),
            p99_ms: percentile(shots, 0.99),
            p99_in_fault_ms: None,
            course: course
                .map(|(count, at)| (*at, count as f64 + 1.0))
                .collect(),
            bound: (limit.burst as f64, limit.per_minute() as f64 / 60.0),
        }
    }
}

/// All loads at once, to their end.
pub(crate) async fn fire(loads: Vec<Load>, epoch: Instant) -> Vec<Shot> {
    let firing = loads.into_iter().map(|load| load.fire(epoch));
    join_all(firing).await.concat()
}

fn lasted(shots: &[Shot]) -> f64 {
    let first = shots.iter().map(|s| s.sent).min().unwrap_or(0);
    let last = shots.iter().map(|s| s.answered).max().unwrap_or(0);
    (last - first) as f64 / 1e6
}

fn limit(name: &str) -> &'static Limit {
    LIMITS.iter().find(|limit| limit.name == name).unwrap()
}
