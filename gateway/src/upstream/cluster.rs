//! The replicas of one service, and which of them takes the next request.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::config::{Balance, HashKey, Host, Service};

/// How long a replica is ejected after a connection to it failed.
const EJECTION: Duration = Duration::from_secs(1);

/// One address of a service.
#[derive(Debug)]
pub struct Replica {
    pub address: SocketAddr,
    healthy: AtomicBool,
    in_flight: AtomicU32,
    /// Milliseconds after `Cluster::epoch`; 0 if it was never ejected.
    ejected_until: AtomicU64,
}

impl Replica {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            // Healthy until the first check says otherwise, so that a new gateway serves at once.
            healthy: AtomicBool::new(true),
            in_flight: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
        }
    }

    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Records the result of a health check. True if the state changed.
    pub(super) fn set_healthy(&self, healthy: bool) -> bool {
        self.healthy.swap(healthy, Ordering::Relaxed) != healthy
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }
}

/// Why no replica was picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unavailable {
    NoneHealthy,
    TooManyInFlight,
}

impl Unavailable {
    pub fn detail(self) -> &'static str {
        match self {
            Self::NoneHealthy => "no replica of it is healthy",
            Self::TooManyInFlight => "too many requests to it are under way",
        }
    }
}

/// All replicas of one service.
pub struct Cluster {
    service: Arc<Service>,
    replicas: ArcSwap<Vec<Arc<Replica>>>,
    next: AtomicUsize,
    in_flight: AtomicU32,
    epoch: Instant,
}

impl Cluster {
    /// Starts with the upstreams given as addresses. Those given as names are added by the first
    /// [`Cluster::set_addresses`].
    pub fn new(service: Arc<Service>) -> Arc<Self> {
        let literal = service.upstreams.iter().filter_map(|upstream| {
            let Host::Address(ip) = upstream.host else {
                return None;
            };
            Some(SocketAddr::new(ip, upstream.port))
        });
        let replicas = literal
            .map(|address| Arc::new(Replica::new(address)))
            .collect();
        Arc::new(Self {
            service,
            replicas: ArcSwap::from_pointee(replicas),
            next: AtomicUsize::new(0),
            in_flight: AtomicU32::new(0),
            epoch: Instant::now(),
        })
    }

    pub fn service(&self) -> &Service {
        &self.service
    }

    pub fn replicas(&self) -> Arc<Vec<Arc<Replica>>> {
        self.replicas.load_full()
    }

    /// Replaces the addresses. Replicas that remain keep their state.
    pub fn set_addresses(&self, addresses: &[SocketAddr]) {
        let known = self.replicas.load();
        let same = known.len() == addresses.len()
            && known
                .iter()
                .all(|replica| addresses.contains(&replica.address));
        if same {
            return;
        }
        let replicas = addresses.iter().map(|address| {
            let kept = known.iter().find(|replica| replica.address == *address);
            kept.cloned()
                .unwrap_or_else(|| Arc::new(Replica::new(*address)))
        });
        self.replicas.store(Arc::new(replicas.collect()));
    }

    /// Counts a request against the service's `max_in_flight` until the permit is dropped.
    pub fn acquire(self: &Arc<Self>) -> Result<ServicePermit, Unavailable> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let permit = ServicePermit(self.clone());
        match before < self.service.max_in_flight {
            true => Ok(permit),
            false => Err(Unavailable::TooManyInFlight),
        }
    }

    /// Picks a healthy replica. Prefers one that was not `tried` and, among these, one that is not
    /// ejected.
    pub fn pick(
        &self,
        user: Option<&str>,
        client: IpAddr,
        tried: &[SocketAddr],
    ) -> Result<PickedReplica, Unavailable> {
        let now = self.now();
        let replicas = self.replicas.load();
        let ejected = |replica: &Replica| replica.ejected_until.load(Ordering::Relaxed) > now;
        let healthy = || replicas.iter().filter(|replica| replica.is_healthy());
        let untried = || healthy().filter(|replica| !tried.contains(&replica.address));
        let mut choice: Vec<&Arc<Replica>> =
            untried().filter(|replica| !ejected(replica)).collect();
        if choice.is_empty() {
            choice = untried().collect();
        }
        if choice.is_empty() {
            choice = healthy().collect();
        }
        let index = match choice.len() {
            0 => return Err(Unavailable::NoneHealthy),
            1 => 0,
            n => self.choose(&choice, n, user, client),
        };
        Ok(PickedReplica::new(choice[index].clone()))
    }

    fn choose(
        &self,
        choice: &[&Arc<Replica>],
        n: usize,
        user: Option<&str>,
        client: IpAddr,
    ) -> usize {
        let turn = || self.next.fetch_add(1, Ordering::Relaxed);
        match self.service.balance {
            Balance::RoundRobin => turn() % n,
            Balance::LeastInFlight => {
                // The starting point rotates, which spreads requests over equally busy replicas.
                let start = turn();
                (0..n)
                    .map(|i| (start + i) % n)
                    .min_by_key(|&i| choice[i].in_flight())
                    .unwrap_or(0)
            }
            Balance::Hash(by) => {
                let key = match (by, user) {
                    (HashKey::User, Some(user)) => user.to_owned(),
                    _ => client.to_string(),
                };
                rendezvous(&key, choice)
            }
        }
    }

    /// Ejects a replica for a while, because a connection to it failed.
    pub fn eject(&self, address: SocketAddr) {
        if let Some(replica) = self.replicas.load().iter().find(|r| r.address == address) {
            let until = self.now() + EJECTION.as_millis() as u64;
            replica.ejected_until.store(until, Ordering::Relaxed);
        }
    }

    /// How much longer a replica stays ejected.
    pub fn ejected_for(&self, replica: &Replica) -> Option<Duration> {
        let until = replica.ejected_until.load(Ordering::Relaxed);
        until
            .checked_sub(self.now())
            .filter(|left| *left > 0)
            .map(Duration::from_millis)
    }

    fn now(&self) -> u64 {
        self.epoch.elapsed().as_millis() as u64
    }
}

/// Rendezvous hashing (highest random weight): when a replica leaves, only its own keys move.
fn rendezvous(key: &str, choice: &[&Arc<Replica>]) -> usize {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let weight = |replica: &Replica| {
        let mut hasher = DefaultHasher::new();
        (key, replica.address).hash(&mut hasher);
        hasher.finish()
    };
    (0..choice.len())
        .max_by_key(|&i| weight(choice[i]))
        .unwrap_or(0)
}

/// Permission to send one request to a service. Counts against `max_in_flight` until it is dropped.
pub struct ServicePermit(Arc<Cluster>);

impl Drop for ServicePermit {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The replica picked for a request. The request counts as in flight there until this is dropped.
pub struct PickedReplica(Arc<Replica>);

impl PickedReplica {
    fn new(replica: Arc<Replica>) -> Self {
        replica.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(replica)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.address
    }
}

impl Drop for PickedReplica {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
