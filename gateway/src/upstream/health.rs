//! Active health checks and name resolution, for every service, until shutdown.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use runtime::client::Client;
use tokio::time::{MissedTickBehavior, interval};

use super::{Cluster, Replica};
use crate::config::Host;

/// How often host names are resolved again.
const RESOLVE_EVERY: Duration = Duration::from_secs(5);
/// A health check that takes longer has failed. A worker's readiness waits up to a second for each of
/// its dependencies; a hanging one that is not required must not make the worker unhealthy.
const CHECK_DEADLINE: Duration = Duration::from_secs(2);
const MAX_ANSWER: usize = 64 << 10;

/// Checks the replicas of one service and resolves its host names, forever.
pub async fn watch(cluster: Arc<Cluster>, client: Client) {
    tokio::join!(resolve(&cluster), check(&cluster, &client));
}

/// Keeps the last known addresses when a name cannot be resolved.
async fn resolve(cluster: &Cluster) {
    let upstreams = &cluster.service().upstreams;
    if upstreams
        .iter()
        .all(|upstream| matches!(upstream.host, Host::Address(_)))
    {
        return;
    }
    let mut known: HashMap<usize, Vec<SocketAddr>> = HashMap::new();
    let mut tick = interval(RESOLVE_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        for (index, upstream) in upstreams.iter().enumerate() {
            match &upstream.host {
                Host::Address(ip) => {
                    known.insert(index, vec![SocketAddr::new(*ip, upstream.port)]);
                }
                Host::Name(name) => {
                    match tokio::net::lookup_host((name.as_str(), upstream.port)).await {
                        Ok(found) => {
                            known.insert(index, found.collect());
                        }
                        Err(error) => {
                            tracing::warn!(service = cluster.service().name, host = name, %error, "`{name}` could not be resolved");
                        }
                    }
                }
            }
        }
        let mut addresses: Vec<SocketAddr> = known.values().flatten().copied().collect();
        addresses.sort_unstable();
        addresses.dedup();
        cluster.set_addresses(&addresses);
    }
}

/// How many checks in a row had the same result.
#[derive(Default)]
struct Streak {
    ok: bool,
    length: u32,
}

async fn check(cluster: &Cluster, client: &Client) {
    let health = &cluster.service().health;
    let mut streaks: HashMap<SocketAddr, Streak> = HashMap::new();
    let mut tick = interval(health.every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Each replica has its own running check, so that one that hangs does not delay the others.
    let mut running = FuturesUnordered::new();
    let mut checking: HashSet<SocketAddr> = HashSet::new();
    loop {
        tokio::select! {
            _ = tick.tick() => {
                let replicas = cluster.replicas();
                streaks.retain(|address, _| replicas.iter().any(|r| r.address == *address));
                for replica in replicas.iter().filter(|r| !checking.contains(&r.address)).cloned().collect::<Vec<_>>() {
                    checking.insert(replica.address);
                    running.push(async move {
                        let ok = is_ready(client, &replica, &health.path).await;
                        (replica, ok)
                    });
                }
            }
            Some((replica, ok)) = running.next() => {
            checking.remove(&replica.address);
            let streak = streaks.entry(replica.address).or_default();
            streak.length = if streak.ok == ok {
                streak.length + 1
            } else {
                1
            };
            streak.ok = ok;
            let needed = if ok {
                health.healthy_after
            } else {
                health.unhealthy_after
            };
            if streak.length >= needed && replica.set_healthy(ok) {
                let (service, state) = (&cluster.service().name, if ok { "in" } else { "out" });
                tracing::info!(service, address = %replica.address, "replica {} of `{service}` is {state}", replica.address);
            }
            }
        }
    }
}

async fn is_ready(client: &Client, replica: &Replica, path: &str) -> bool {
    let Ok(uri) = format!("http://{}{path}", replica.address).parse() else {
        return false;
    };
    match client.get(&uri, CHECK_DEADLINE, MAX_ANSWER).await {
        Ok(answer) => answer.status.is_success(),
        Err(_) => false,
    }
}
