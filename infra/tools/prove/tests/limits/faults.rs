//! The faults of Redis and of a gateway: how each begins and ends.

use std::time::Duration;

use testkit::eventually;

use crate::stack::{Limit, Stack};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Stopped,
    KilledKept,
    KilledEmpty,
    Flushed,
    ScriptsLost,
    Slow,
    OneCutOff,
    OutOfMemory,
    ReadOnly,
    GatewayKilled,
}

impl Fault {
    pub(crate) const ALL: [Self; 10] = [
        Self::Stopped,
        Self::KilledKept,
        Self::KilledEmpty,
        Self::Flushed,
        Self::ScriptsLost,
        Self::Slow,
        Self::OneCutOff,
        Self::OutOfMemory,
        Self::ReadOnly,
        Self::GatewayKilled,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stopped => "Redis SIGSTOP, SIGCONT",
            Self::KilledKept => "Redis kill -9, restart",
            Self::KilledEmpty => "Redis kill -9, restart empty",
            Self::Flushed => "FLUSHALL",
            Self::ScriptsLost => "SCRIPT FLUSH",
            Self::Slow => "Redis slower than the deadline",
            Self::OneCutOff => "one gateway cut off",
            Self::OutOfMemory => "Redis out of memory",
            Self::ReadOnly => "Redis read-only",
            Self::GatewayKilled => "a gateway kill -9, restart",
        }
    }

    /// How many requests above burst + rate·t the contract allows, for a fault of `seconds`.
    pub(crate) fn allows(self, limit: &Limit, seconds: f64) -> f64 {
        match self {
            Self::ScriptsLost | Self::GatewayKilled => 0.0,
            Self::OneCutOff => limit.rate as f64 * seconds / 2.0,
            _ => limit.burst as f64,
        }
    }

    pub(crate) async fn begin(self, stack: &mut Stack) {
        match self {
            Self::Stopped => stack.redis.pause(),
            Self::KilledKept | Self::KilledEmpty => stack.redis.kill(),
            Self::Flushed => drop(stack.redis.command("FLUSHALL").await),
            Self::ScriptsLost => drop(stack.redis.command("SCRIPT FLUSH").await),
            Self::Slow => {
                for proxy in &mut stack.proxies {
                    proxy.latency(Duration::from_millis(100)).await;
                }
            }
            Self::OneCutOff => stack.proxies[0].blackhole().await,
            Self::OutOfMemory => drop(stack.redis.command("CONFIG SET maxmemory 1").await),
            Self::ReadOnly => drop(stack.redis.command("REPLICAOF 127.0.0.1 1").await),
            Self::GatewayKilled => stack.gateways[0].process.kill9(),
        }
    }

    pub(crate) async fn end(self, stack: &mut Stack) {
        match self {
            Self::Stopped => stack.redis.resume(),
            Self::KilledKept => stack.redis.restart().await,
            Self::KilledEmpty => stack.redis.restart_empty().await,
            Self::Flushed | Self::ScriptsLost => {}
            Self::Slow | Self::OneCutOff => {
                for proxy in &mut stack.proxies {
                    proxy.restore().await;
                }
            }
            Self::OutOfMemory => drop(stack.redis.command("CONFIG SET maxmemory 0").await),
            Self::ReadOnly => drop(stack.redis.command("REPLICAOF NO ONE").await),
            Self::GatewayKilled => {
                stack.gateways[0].process.start_again();
                let gateway = &stack.gateways[0];
                eventually(Duration::from_secs(10), async || {
                    let ready = gateway.admin().get("/readyz").try_send().await;
                    ready.is_ok_and(|reply| reply.status == 200)
                })
                .await;
            }
        }
    }
}
