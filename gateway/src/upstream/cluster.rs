//! The replicas of one service, and which of them takes the next request.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::config::{Balance, HashKey, Host, Service};

/// How long a replica is passed over after a connection to it failed.
const EJECTION: Duration = Duration::from_secs(1);

/// One address of a service.
#[derive(Debug)]
pub struct Replica {
    pub address: SocketAddr,
    healthy: AtomicBool,
    in_flight: AtomicU32,
    /// Milliseconds after `Cluster::epoch`; 0 is never.
    ejected_until: AtomicU64,
}

impl Replica {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            // Until the first check says otherwise: a gateway that starts serves at once.
            healthy: AtomicBool::new(true),
            in_flight: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
        }
    }

    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Notes what a health check found; true where that is new.
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
    /// Literal addresses are there at once; names appear with the first [`Cluster::set_addresses`].
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

    /// Replaces the addresses; replicas that stay keep their state.
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

    /// Reserves one of the service's places for a request, until the permit is dropped.
    pub fn acquire(self: &Arc<Self>) -> Result<ServicePermit, Unavailable> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let permit = ServicePermit(self.clone());
        match before < self.service.max_in_flight {
            true => Ok(permit),
            false => Err(Unavailable::TooManyInFlight),
        }
    }

    /// Picks a replica: rather one that was not `tried`, rather one that is not ejected, but always
    /// a healthy one.
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
                // Starting at a turning place spreads equal ones.
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

    /// A connection failed: pass this replica over for a while.
    pub fn eject(&self, address: SocketAddr) {
        if let Some(replica) = self.replicas.load().iter().find(|r| r.address == address) {
            let until = self.now() + EJECTION.as_millis() as u64;
            replica.ejected_until.store(until, Ordering::Relaxed);
        }
    }

    /// How long a replica stays passed over.
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

/// Highest random weight: a replica that leaves moves only its own keys.
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

/// One of a service's places; dropping it frees the place.
pub struct ServicePermit(Arc<Cluster>);

impl Drop for ServicePermit {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request's use of a replica; dropping it ends the use.
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
