//! Decides whether a request may be forwarded: canonical path → route → identity → tokens.
//!
//! Admission is a function of a request's head, never of a Pingora session, so that any code that reads
//! heads can call it and tests need no socket. [`crate::connection::heads`] has checked the bytes of
//! the head before. Admission must never forward, retry or write a response.
//! [`crate::request::proxy`] calls it and turns an [`Admitted`] into an upstream request.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method, header};
use ipnet::IpNet;

use crate::auth::{AuthError, Identity, Verifier};
use crate::config::{Config, Policy, PolicyKey};
use crate::limits::{
    ConcurrencyLimiter, ConcurrencyPermit, Decision, Quota, QuotaError, RateLimiter, Snapshot,
    Take, Tallies,
};
use crate::request::canonical;
use crate::request::refusal::Refusal;
use crate::request::route::{Access, Route, Table};

const FORWARDED_FOR: HeaderName = contract::identity::FORWARDED_FOR;

/// The head of a request, as admission needs it.
pub struct RequestHead<'a> {
    pub method: &'a Method,
    /// The request target as received, in origin form.
    pub target: &'a str,
    pub headers: &'a HeaderMap,
    /// The address at the other end of the connection.
    pub peer: IpAddr,
}

/// Proof that a request may be forwarded. Only [`Admission::admit`] creates it, and the upstream
/// request cannot be built without it.
pub struct Admitted {
    route: Arc<Route>,
    identity: Option<Arc<Identity>>,
    client: IpAddr,
    from_trusted_proxy: bool,
    limits: Vec<Snapshot>,
    /// Held until the request ends.
    _permits: Vec<ConcurrencyPermit>,
}

impl Admitted {
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// None on public routes.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_deref()
    }

    /// The client's own address.
    pub fn client(&self) -> IpAddr {
        self.client
    }

    /// Whether the peer is a trusted proxy, whose forwarding headers count.
    pub fn from_trusted_proxy(&self) -> bool {
        self.from_trusted_proxy
    }

    /// The limits after this request; empty if none applies.
    pub fn limits(&self) -> &[Snapshot] {
        &self.limits
    }
}

/// One limit policy, ready to be enforced.
struct Limit {
    quota: Arc<Quota>,
    key: PolicyKey,
}

/// Decides which requests may be forwarded.
pub struct Admission {
    routes: Table,
    verifier: Arc<Verifier>,
    limiter: Arc<dyn RateLimiter>,
    limits: HashMap<String, Limit>,
    concurrency: Arc<ConcurrencyLimiter>,
    trusted_proxies: Vec<IpNet>,
}

impl Admission {
    pub fn new(
        config: &Config,
        verifier: Arc<Verifier>,
        limiter: Arc<dyn RateLimiter>,
        tallies: &Tallies,
    ) -> Result<Self, QuotaError> {
        let limit = |policy: &Arc<Policy>| {
            let quota = Quota::new(policy, config.limits.gateways.get(), tallies)?;
            let key = policy.key;
            Ok((policy.name.clone(), Limit { quota, key }))
        };
        Ok(Self {
            routes: Table::build(config),
            verifier,
            limiter,
            limits: config
                .limits
                .policies
                .values()
                .map(limit)
                .collect::<Result<_, _>>()?,
            concurrency: Arc::default(),
            trusted_proxies: config.trusted_proxies.clone(),
        })
    }

    /// Checks the method, path, route, declared size, identity and limits, in this order: cheap checks
    /// come first, so that a request they refuse costs little.
    pub async fn admit(&self, head: &RequestHead<'_>, now: i64) -> Result<Admitted, Refusal> {
        if !canonical::method_is_served(head.method) {
            return Err(Refusal::method_not_served());
        }
        let path = canonical::path(head.target)?;
        let route = self.routes.find(head.method, &path)?;
        declared_length(head.headers, route.max_body)?;

        let from_trusted_proxy = self.is_trusted(head.peer);
        let client = self.client(head, from_trusted_proxy);
        let identity = match route.access {
            Access::Public => None,
            Access::Protected => Some(self.identify(head.headers, client, now).await?),
        };
        let (limits, permits) = self.take_tokens(route, identity.as_deref(), client).await?;
        Ok(Admitted {
            route: route.clone(),
            identity,
            client,
            from_trusted_proxy,
            limits,
            _permits: permits,
        })
    }

    async fn identify(
        &self,
        headers: &HeaderMap,
        client: IpAddr,
        now: i64,
    ) -> Result<Arc<Identity>, AuthError> {
        let credentials = headers
            .get(header::AUTHORIZATION)
            .ok_or(AuthError::Missing)?
            .as_bytes();
        match self.verifier.cached(credentials, now) {
            Some(known) => known,
            None => self.verifier.verify(credentials, client, now).await,
        }
    }

    /// Takes the request's cost from every policy that applies, or from none.
    async fn take_tokens(
        &self,
        route: &Route,
        identity: Option<&Identity>,
        client: IpAddr,
    ) -> Result<(Vec<Snapshot>, Vec<ConcurrencyPermit>), Refusal> {
        let policies = match identity {
            Some(_) => &route.limits.authenticated,
            None => &route.limits.anonymous,
        };
        if policies.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let address = |prefix: u8| Network::of(client, prefix);
        let networks: Vec<Network> = policies
            .iter()
            .map(|policy| match policy.key {
                PolicyKey::Address { ipv6_prefix } => address(ipv6_prefix),
                PolicyKey::User | PolicyKey::Global => address(128),
            })
            .collect();
        let (mut takes, mut shadows) = (Vec::with_capacity(policies.len()), Vec::new());
        for (policy, network) in policies.iter().zip(&networks) {
            // An unknown policy must not mean that no limit applies.
            let limit = self
                .limits
                .get(&policy.name)
                .ok_or_else(Refusal::internal)?;
            let key: &[u8] = match limit.key {
                PolicyKey::User => identity.map_or(b"", |known| known.user_id_str().as_bytes()),
                PolicyKey::Address { .. } => network.as_bytes(),
                PolicyKey::Global => b"",
            };
            let take = Take::new(&limit.quota, key).costing(route.cost);
            let list = if limit.quota.is_shadow() {
                &mut shadows
            } else {
                &mut takes
            };
            list.push(take);
        }
        let mut permits = Vec::new();
        for take in takes.iter().chain(&shadows) {
            let Some(max) = take.quota.max_in_flight() else {
                continue;
            };
            match self.concurrency.acquire(take, max) {
                Some(permit) => permits.push(permit),
                None => {
                    take.quota.count_too_many_in_flight();
                    if !take.quota.is_shadow() {
                        return Err(Refusal::too_many_in_flight(max));
                    }
                }
            }
        }
        match self.limiter.take(&takes).await {
            Decision::Allowed(snapshots) => {
                // Only admitted requests count against shadow policies, and against each on its own.
                for shadow in shadows {
                    self.limiter.take(&[shadow]).await;
                }
                Ok((snapshots, permits))
            }
            Decision::Limited(snapshots) => Err(Refusal::rate_limited(&snapshots)),
            Decision::Unavailable => Err(Refusal::limiter_unavailable()),
        }
    }

    /// Whether an address is one of our own proxies, whose forwarding headers count.
    pub fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted_proxies
            .iter()
            .any(|net| net.contains(&address))
    }

    /// The client's address: the peer, or behind trusted proxies the rightmost address of
    /// `X-Forwarded-For` that is not a trusted proxy. The addresses left of it are only claims.
    fn client(&self, head: &RequestHead<'_>, from_trusted_proxy: bool) -> IpAddr {
        if !from_trusted_proxy {
            return head.peer;
        }
        let lines: Vec<&str> = head
            .headers
            .get_all(FORWARDED_FOR)
            .iter()
            // An unreadable line does not count as absent: it parses as no address and ends the search.
            .map(|line| line.to_str().unwrap_or_default())
            .collect();
        let mut nearest = head.peer;
        for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
            let Ok(address) = hop.trim().parse::<IpAddr>() else {
                return nearest;
            };
            nearest = address.to_canonical();
            if !self.is_trusted(nearest) {
                return nearest;
            }
        }
        nearest
    }
}

/// The network of an address, as a limiter key.
struct Network(([u8; 16], usize));

impl Network {
    fn of(address: IpAddr, ipv6_prefix: u8) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let mut bytes = [0; 16];
                bytes[..4].copy_from_slice(&v4.octets());
                Self((bytes, 4))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(ipv6_prefix.min(128)))
                    .unwrap_or(0);
                Self(((u128::from(v6) & mask).to_be_bytes(), 16))
            }
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.0.0[..self.0.1]
    }
}

/// Refuses a body whose declared length is over the limit, before any of it is read.
fn declared_length(headers: &HeaderMap, max: u64) -> Result<(), Refusal> {
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok())
        .and_then(|digits| digits.parse::<u64>().ok());
    match declared {
        Some(length) if length > max => Err(Refusal::payload_too_large(max)),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "admission/tests.rs"]
mod tests;
