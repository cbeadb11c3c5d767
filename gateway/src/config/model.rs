//! The checked configuration, as the rest of the gateway sees it.
//!
//! Plain immutable data: no parsing, no I/O, no defaults (the reader fills them in). References
//! between parts of the file are already resolved: a rule holds its policies, not their names.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use contract::identity::SigningKeys;
use http::{HeaderName, Method, Uri};
use ipnet::IpNet;
use runtime::secret::Secret;

/// The whole file.
#[derive(Debug, Clone)]
pub struct Config {
    pub listen: Listen,
    /// Peers whose `X-Forwarded-For` counts. Default: none.
    pub trusted_proxies: Vec<IpNet>,
    /// Keys that sign the identity towards the workers, newest first; the first one signs.
    pub signing_keys: SigningKeys,
    pub auth: Auth,
    /// Which service serves the feed of revoked sessions.
    pub revocation: Option<Revocation>,
    /// `None`: this process alone keeps the limits.
    pub redis: Option<Redis>,
    pub limits: Limits,
    /// In the order of the file.
    pub services: Vec<Arc<Service>>,
    /// Exact paths outside the services.
    pub public: Vec<PublicPath>,
    pub access_log: AccessLog,
    pub drain: Drain,
}

/// Where the gateway listens, and how long it waits for a client.
#[derive(Debug, Clone)]
pub struct Listen {
    /// Plain HTTP/1.1 for clients.
    pub http: SocketAddr,
    /// Health, metrics and status; never public. Default: `127.0.0.1:9001`.
    pub admin: SocketAddr,
    /// For a whole head, from its first byte. A new connection has as long for that byte.
    /// Default: `10s`.
    pub request_head_timeout: Duration,
    /// For a connection without a request, and for a client that takes nothing of its answer.
    /// Default: `75s`.
    pub idle_timeout: Duration,
}

/// Whose bearer tokens are believed.
#[derive(Debug, Clone)]
pub struct Auth {
    /// Tolerance for `exp` and `nbf`. Default: `5s`.
    pub leeway: Duration,
    /// At least one; no two with the same `issuer`.
    pub issuers: Vec<Issuer>,
}

/// One token issuer.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// The `iss` claim.
    pub issuer: String,
    /// The `aud` claim that is required.
    pub audience: String,
    pub keys: KeySource,
    /// The allow-list. HS256 stands alone and only with [`KeySource::SharedSecret`].
    /// Default: EdDSA, or HS256 with a shared secret.
    pub algorithms: Vec<Algorithm>,
    /// Claim → the `x-claim-…` header that carries it to the workers. Each header once.
    pub claims_to_headers: BTreeMap<String, HeaderName>,
}

/// Where an issuer's keys come from: exactly one of `jwks_url`, `jwks_file`, `hs256_secret`.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// Fetched over plain `http://` (the only scheme of this version).
    JwksUrl(Uri),
    /// Exists as a file at the time of the check.
    JwksFile(PathBuf),
    /// At least 32 bytes; the bytes of the text are the key.
    SharedSecret(Secret),
}

/// A signature algorithm of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    EdDsa,
    Es256,
    Rs256,
    Hs256,
}

/// Where revoked sessions are read from.
#[derive(Debug, Clone)]
pub struct Revocation {
    /// The name of the service whose workers serve the feed; it exists.
    pub service: String,
    /// Default: `allow`.
    pub when_stale: WhenStale,
}

/// What happens to tokens while the revocation feed is stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenStale {
    Allow,
    Deny,
}

/// The Redis that all gateways share.
#[derive(Debug, Clone)]
pub struct Redis {
    /// As `rate_limit::RedisSettings` reads it; may hold a password.
    pub url: Secret,
    /// For one call. Default: `20ms`.
    pub deadline: Duration,
}

/// The rate-limit policies.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The largest number of gateways that may run. Default: 1.
    pub gateways: NonZeroU32,
    pub policies: BTreeMap<String, Arc<Policy>>,
}

/// One token bucket per key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Lower-case letters, digits, `_` and `-`; at most 64.
    pub name: String,
    pub key: PolicyKey,
    pub rate: Rate,
    /// The size of the bucket, at least 1. Default: the tokens of the rate.
    pub burst: u32,
    /// Default: `local`.
    pub on_redis_failure: FailureMode,
    /// Requests of one key at one time, at each gateway. Default: no cap.
    pub max_in_flight: Option<u32>,
    /// Counts what it would refuse, and refuses nothing.
    pub shadow: bool,
}

/// What a bucket is kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyKey {
    /// The verified user. Never applies to anonymous callers.
    User,
    /// The client's address; IPv6 addresses share a bucket by prefix (default: 64 bits).
    Address { ipv6_prefix: u8 },
    /// Everybody together.
    Global,
}

/// Tokens per time, `100/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// At least 1.
    pub tokens: u32,
    /// A second, a minute or an hour.
    pub per: Duration,
}

/// What a policy does while Redis cannot decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureMode {
    /// Local buckets at this gateway's share of the rate.
    Local,
    /// Refuse with 503.
    Deny,
    /// Admit everything.
    Allow,
}

/// One backend and everything below its prefix.
#[derive(Debug, Clone)]
pub struct Service {
    pub name: String,
    /// `/api/users`: starts with a slash, does not end with one; empty for a service at `/`.
    pub prefix: String,
    /// At least one, no two the same.
    pub upstreams: Vec<HostPort>,
    /// Default: `round_robin`.
    pub balance: Balance,
    /// What may be called without a token.
    pub public: Vec<Match>,
    pub limits: PolicySet,
    pub rules: Vec<Rule>,
    /// Defaults: connect `500ms`, first byte `30s`, idle `60s`.
    pub timeouts: Timeouts,
    /// Bytes. Default: `1MiB`.
    pub max_body: u64,
    /// Requests at one time, over all upstreams. Default: 1024.
    pub max_in_flight: u32,
    /// Attempts in total, the first included; 1 means no retry. Default: 2.
    pub attempts: u32,
    pub health: Health,
}

/// The policies of a service, by caller. Policies keyed by user never stand in `anonymous`.
#[derive(Debug, Clone, Default)]
pub struct PolicySet {
    pub authenticated: Vec<Arc<Policy>>,
    pub anonymous: Vec<Arc<Policy>>,
}

/// How a request finds its replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    RoundRobin,
    LeastInFlight,
    /// The same key goes to the same replica.
    Hash(HashKey),
}

/// What `balance: {hash: …}` looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashKey {
    /// The user, or the client's address when there is none.
    User,
    Address,
}

/// `METHOD /path` below the prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    pub method: Method,
    /// Starts with a slash; `{name}` is one segment, `{*rest}` at the end one or more.
    pub pattern: String,
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.pattern)
    }
}

/// What differs for some requests of a service. Of several rules the most specific one counts.
#[derive(Debug, Clone)]
pub struct Rule {
    pub matches: Match,
    /// On top of the service's; those keyed by user apply to authenticated callers only.
    pub limits: Vec<Arc<Policy>>,
    /// Tokens that a request takes from each policy; no more than the smallest burst. Default: 1.
    pub cost: u32,
    pub timeouts: TimeoutOverrides,
    /// Bytes.
    pub max_body: Option<u64>,
}

/// How long the gateway waits for an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    pub connect: Duration,
    /// From the end of the request head to the first byte of the answer.
    pub first_byte: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
}

impl Timeouts {
    /// These, with what `overrides` names replaced.
    pub fn with(self, overrides: TimeoutOverrides) -> Self {
        Self {
            connect: overrides.connect.unwrap_or(self.connect),
            first_byte: overrides.first_byte.unwrap_or(self.first_byte),
            idle: overrides.idle.unwrap_or(self.idle),
        }
    }
}

/// The time-outs that a rule replaces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeoutOverrides {
    pub connect: Option<Duration>,
    pub first_byte: Option<Duration>,
    pub idle: Option<Duration>,
}

/// The active health check of every upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Default: `/readyz`.
    pub path: String,
    /// Default: `1s`.
    pub every: Duration,
    /// Failures in a row. Default: 2.
    pub unhealthy_after: u32,
    /// Successes in a row. Default: 1.
    pub healthy_after: u32,
}

/// An exact path outside the services that anybody may read (GET and HEAD).
#[derive(Debug, Clone)]
pub struct PublicPath {
    pub path: String,
    /// The service that answers.
    pub service: Arc<Service>,
}

/// The access log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AccessLog {
    /// The share of requests that is logged, 0 to 1. Default: 1.
    pub sample: f64,
}

/// How the gateway ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// Not ready, but still accepting. Default: `1s`.
    pub lame_duck: Duration,
    /// From the signal to the end, the lame-duck time included. Default: `25s`.
    pub grace: Duration,
}

/// `host:port`, the host an address or a name that is resolved again and again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    pub host: Host,
    pub port: u16,
}

/// A host: an address, or a lower-case DNS name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    Address(IpAddr),
    Name(String),
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(address) => write!(f, "{}", SocketAddr::new(*address, self.port)),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}
