mod arithmetic;
mod concurrency;
mod conformance;
mod headers;
mod leases;
mod local;
mod model;
mod outages;
mod redis;
mod servers;
mod simulation;

use std::sync::Arc;
use std::time::Duration;

use super::{Decision, Quota, Snapshot, Tallies};
use crate::config::{FailureMode, Policy, PolicyKey, Rate};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn policy(name: &str, tokens: u32, per: Duration, burst: u32) -> Policy {
    Policy {
        name: name.into(),
        key: PolicyKey::User,
        rate: Rate { tokens, per },
        burst,
        on_redis_failure: FailureMode::Local,
        max_in_flight: None,
        shadow: false,
    }
}

fn quota(name: &str, tokens: u32, per: Duration, burst: u32) -> Arc<Quota> {
    Quota::new(&policy(name, tokens, per, burst), 2, &Tallies::default()).unwrap()
}

fn allowed(decision: Decision) -> Vec<Snapshot> {
    match decision {
        Decision::Allowed(snapshots) => snapshots,
        other => panic!("not allowed: {other:?}"),
    }
}

fn limited(decision: Decision) -> Vec<Snapshot> {
    match decision {
        Decision::Limited(snapshots) => snapshots,
        other => panic!("not limited: {other:?}"),
    }
}
