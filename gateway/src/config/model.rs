//! The checked configuration, as the rest of the gateway sees it.
//!
//! Plain immutable data: no parsing, no I/O, no defaults (the reader fills them in). References
//! between sections are resolved: a rule holds its policies, not their names. "Default" in a
//! comment is what the reader fills in for a missing key.

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
    /// The peers whose `X-Forwarded-For` is trusted. Default: none.
    pub trusted_proxies: Vec<IpNet>,
    /// The keys that sign the identity in requests to the workers, newest first. Only the first
    /// key signs.
    pub signing_keys: SigningKeys,
    pub auth: Auth,
    /// Where revoked sessions are read from. `None`: revocation is not checked.
    pub revocation: Option<Revocation>,
    /// `None`: the limits are kept in this process alone.
    pub redis: Option<Redis>,
    pub limits: Limits,
    /// In the order of the file.
    pub services: Vec<Arc<Service>>,
    /// Exact paths outside the services.
    pub public: Vec<PublicPath>,
    pub access_log: AccessLog,
    pub drain: Drain,
}

/// The addresses of the listeners, and how long they wait for a client.
#[derive(Debug, Clone)]
pub struct Listen {
    /// Plain HTTP/1.1 for clients.
    pub http: SocketAddr,
    /// Health, metrics and status; never public. Default: `127.0.0.1:9001`.
    pub admin: SocketAddr,
    /// For a whole request head, from its first byte. A new connection has the same time to send
    /// that byte. Default: `10s`.
    pub request_head_timeout: Duration,
    /// For a connection without a request, and for a client that stops reading its answer.
    /// Default: `75s`.
    pub idle_timeout: Duration,
}

/// The issuers whose bearer tokens are accepted.
#[derive(Debug, Clone)]
pub struct Auth {
    /// Tolerance for `exp` and `nbf`. Default: `5s`.
    pub leeway: Duration,
    /// At least one issuer, each with its own name.
    pub issuers: Vec<Issuer>,
}

/// One token issuer.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// The `iss` claim.
    pub issuer: String,
    /// The required `aud` claim.
    pub audience: String,
    pub keys: KeySource,
    /// The allow-list. HS256 is the only entry with [`KeySource::SharedSecret`], and never appears
    /// with another source. Default: EdDSA, or HS256 with a shared secret.
    pub algorithms: Vec<Algorithm>,
    /// From the name of a claim to the `x-claim-…` header that carries it to the workers. No two
    /// claims share a header.
    pub claims_to_headers: BTreeMap<String, HeaderName>,
}

/// The source of an issuer's keys: `jwks_url`, `jwks_file` or `hs256_secret`.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// Fetched over plain `http://`, the only scheme of this version.
    JwksUrl(Uri),
    /// The file existed when the configuration was checked.
    JwksFile(PathBuf),
    /// The bytes of the text are the key; at least 32.
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
    /// The name of the service whose workers serve the feed. The service exists.
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
    /// In the form that `rate_limit::RedisSettings` reads. May contain a password.
    pub url: Secret,
    /// For one call to Redis. Default: `20ms`.
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
    /// At most 64 lower-case letters, digits, `_` and `-`.
    pub name: String,
    pub key: PolicyKey,
    pub rate: Rate,
    /// The size of the bucket, at least 1. Default: the tokens of the rate.
    pub burst: u32,
    /// Default: `local`.
    pub on_redis_failure: FailureMode,
    /// Concurrent requests of one key, at each gateway. Default: no limit.
    pub max_in_flight: Option<u32>,
    /// Counts the requests that it would refuse, and refuses none.
    pub shadow: bool,
}

/// Who shares a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyKey {
    /// The verified user. Never applies to anonymous callers.
    User,
    /// The client's address; IPv6 addresses share a bucket by prefix (default: 64 bits).
    Address { ipv6_prefix: u8 },
    /// All callers together.
    Global,
}

/// Tokens per unit of time, `100/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// At least 1.
    pub tokens: u32,
    /// One second, one minute or one hour.
    pub per: Duration,
}

/// What a policy does while Redis cannot decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureMode {
    /// Use local buckets with this gateway's share of the rate.
    Local,
    /// Refuse with 503.
    Deny,
    /// Admit every request.
    Allow,
}

/// One backend, which serves every path below its prefix.
#[derive(Debug, Clone)]
pub struct Service {
    pub name: String,
    /// `/api/users`: starts with a slash, does not end with one; empty for a service at `/`.
    pub prefix: String,
    /// At least one, each once.
    pub upstreams: Vec<HostPort>,
    /// Default: `round_robin`.
    pub balance: Balance,
    /// The requests that need no token.
    pub public: Vec<Match>,
    pub limits: PolicySet,
    pub rules: Vec<Rule>,
    /// Defaults: connect `500ms`, first byte `30s`, idle `60s`.
    pub timeouts: Timeouts,
    /// Bytes. Default: `1MiB`.
    pub max_body: u64,
    /// Concurrent requests, over all upstreams. Default: 1024.
    pub max_in_flight: u32,
    /// Attempts in total, including the first; 1 means no retry. Default: 2.
    pub attempts: u32,
    pub health: Health,
}

/// The policies of a service, by caller. `anonymous` has no policy keyed by user.
#[derive(Debug, Clone, Default)]
pub struct PolicySet {
    pub authenticated: Vec<Arc<Policy>>,
    pub anonymous: Vec<Arc<Policy>>,
}

/// How the replica for a request is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    RoundRobin,
    LeastInFlight,
    /// The same key goes to the same replica.
    Hash(HashKey),
}

/// What `balance: {hash: …}` hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashKey {
    /// The user, or the client's address if there is no user.
    User,
    Address,
}

/// `METHOD /path` below the prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    pub method: Method,
    /// Starts with a slash. `{name}` is one segment; `{*rest}`, only at the end, is one or more.
    pub pattern: String,
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.pattern)
    }
}

/// Settings for some requests of a service. If several rules match, the most specific one applies.
#[derive(Debug, Clone)]
pub struct Rule {
    pub matches: Match,
    /// In addition to the service's. A policy keyed by user applies to authenticated callers only.
    pub limits: Vec<Arc<Policy>>,
    /// Tokens that a request takes from each policy; at most the smallest burst. Default: 1.
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
    /// Between two chunks of a body.
    pub idle: Duration,
}

impl Timeouts {
    /// These time-outs, except those that `overrides` replaces.
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
    /// Consecutive failures. Default: 2.
    pub unhealthy_after: u32,
    /// Consecutive successes. Default: 1.
    pub healthy_after: u32,
}

/// An exact path outside the services. Anyone may read it, with GET or HEAD.
#[derive(Debug, Clone)]
pub struct PublicPath {
    pub path: String,
    /// The service that answers.
    pub service: Arc<Service>,
}

/// The access log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AccessLog {
    /// The fraction of requests that is logged, 0 to 1. Default: 1.
    pub sample: f64,
}

/// How the gateway shuts down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// How long it reports that it is not ready, and still accepts connections. Default: `1s`.
    pub lame_duck: Duration,
    /// From the signal to the end, including the lame-duck time. Default: `25s`.
    pub grace: Duration,
}

/// `host:port`. A name is resolved again and again.
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
