//! The cost of a limit: processor time for each request, and memory for many keys.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway::config::{FailureMode, Policy, PolicyKey, Rate};
use gateway::limits::{Quota, RateLimiter, RedisLimiter, RedisSettings, Take, Tallies};
use testkit::Redis;
use tokio::task::JoinSet;

use crate::scenarios::{Proof, send_all};

const ROUNDS: usize = 9;

/// The processor time of a request under a limit, as a multiple of that of the same request without
/// one: the median over several rounds at one gateway. All requests under the limit have the same key.
pub(crate) async fn of_a_limit(proof: &mut Proof) -> f64 {
    let time = Duration::from_secs_f64((proof.seconds / 5.0).clamp(0.3, 2.0));
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let limited = round(proof, "/never", time).await;
        let free = round(proof, "/free", time).await;
        ratios.push(limited / free);
    }
    ratios.sort_by(f64::total_cmp);
    ratios[ROUNDS / 2]
}

/// Sends requests at full speed for `time`. Returns the processor ticks that the first gateway used for
/// each answer.
async fn round(proof: &mut Proof, path: &'static str, time: Duration) -> f64 {
    let mut loads = proof.loads(path, 1, [1e9, 1.0], time, Duration::ZERO);
    loads.truncate(1);
    let pid = proof.stack.gateways[0].process.pid();
    let before = ticks(pid);
    let exchanges = send_all(loads, proof.epoch).await;
    let answers = exchanges
        .iter()
        .filter(|exchange| exchange.status == 200)
        .count();
    (ticks(pid) - before) as f64 / answers.max(1) as f64
}

/// User and system time of a process, in clock ticks.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = fields.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[derive(Debug, serde::Serialize)]
pub(crate) struct Keys {
    pub(crate) keys: u32,
    pub(crate) per_second: f64,
    pub(crate) grown_mib: f64,
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            keys,
            per_second,
            grown_mib,
        } = self;
        write!(
            f,
            "{keys} different keys, {per_second:.0} a second: {grown_mib:.0} MiB more memory"
        )
    }
}

/// Sends one request for each of `keys` keys, through the limiter itself. The memory of Redis is not
/// measured: the buckets are full again, and so gone from Redis, within a second.
pub(crate) async fn of_many_keys(keys: u32) -> Keys {
    const CONCURRENCY: u32 = 256;
    let redis = Redis::start().await;
    let limiter = RedisLimiter::new(&RedisSettings {
        url: redis.url(),
        deadline: Duration::from_secs(5),
        namespace: "sluice".into(),
    })
    .unwrap();
    let policy = Policy {
        name: "user".into(),
        key: PolicyKey::User,
        rate: Rate {
            tokens: 100,
            per: Duration::from_secs(1),
        },
        burst: 100,
        on_redis_failure: FailureMode::Local,
        max_in_flight: None,
        shadow: false,
    };
    let quota = Quota::new(&policy, 2, &Tallies::default()).unwrap();
    let (before, started) = (resident_mib(), Instant::now());
    let mut tasks = JoinSet::new();
    for number in 0..CONCURRENCY {
        let (limiter, quota) = (limiter.clone(), Arc::clone(&quota));
        tasks.spawn(async move {
            for key in (number..keys).step_by(CONCURRENCY as usize) {
                let key = format!("user-{key}");
                limiter.take(&[Take::new(&quota, key.as_bytes())]).await;
            }
        });
    }
    tasks.join_all().await;
    Keys {
        keys,
        per_second: f64::from(keys) / started.elapsed().as_secs_f64(),
        grown_mib: resident_mib() - before,
    }
}

fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024.0
}
