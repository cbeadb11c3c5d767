//! `services`: one block each, and the checks across blocks (prefixes, matches).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::declared::Declared;
use super::limits::Policies;
use super::model::{
    Balance, HashKey, Health, Host, HostPort, Listen, Match, Policy, PolicyKey, PolicySet, Rule,
    Service, TimeoutOverrides, Timeouts,
};
use super::patterns::Patterns;
use super::scalars::{count, duration, host_port, literal_path, matches, one_of, prefix, size};
use super::setting::{Section, Setting};

const DEFAULT_TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_millis(500),
    first_byte: Duration::from_secs(30),
    idle: Duration::from_secs(60),
};
const DEFAULT_MAX_BODY: u64 = 1 << 20;
const DEFAULT_MAX_IN_FLIGHT: u32 = 1024;
const DEFAULT_ATTEMPTS: u32 = 2;
const DEFAULT_HEALTH_EVERY: Duration = Duration::from_secs(1);

/// The section `services`.
pub(super) struct Services {
    declared: Declared<Service>,
    prefixes: Prefixes,
}

impl Services {
    pub(super) fn read(
        section: &Setting<'_>,
        policies: &Policies,
        listen: Option<&Listen>,
    ) -> Option<Self> {
        let mut reader = ServicesReader {
            policies,
            listen,
            prefixes: Prefixes::default(),
            matches: Vec::new(),
        };
        let declared = Declared::read(section, |name, keys| reader.service(name, keys))?;
        if declared.is_empty() {
            return section.refuse("names no service; nothing could be reached");
        }
        reader.refuse_matches_of_other_services();
        Some(Self {
            declared,
            prefixes: reader.prefixes,
        })
    }

    /// The services without errors, in the order of the file.
    pub(super) fn into_good(self) -> Vec<Arc<Service>> {
        self.declared
            .into_good()
            .map(|(_, service)| service)
            .collect()
    }

    /// The service that `name` names.
    pub(super) fn find(&self, name: &Setting<'_>) -> Option<Arc<Service>> {
        self.declared.find(name, "service", "services")
    }

    /// The name of the service that `path` belongs to.
    pub(super) fn owner(&self, path: &str) -> Option<&str> {
        self.prefixes.longest(path).map(|(_, name)| name)
    }
}

/// The prefixes of the services, each with the name of its service.
#[derive(Default)]
struct Prefixes(Vec<(String, String)>);

impl Prefixes {
    /// The longest prefix above `path`, by whole segments.
    fn longest(&self, path: &str) -> Option<(&str, &str)> {
        let is_above = |prefix: &str| {
            path.strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let pairs = self.0.iter().map(|(prefix, name)| (&**prefix, &**name));
        pairs
            .filter(|(prefix, _)| is_above(prefix))
            .max_by_key(|(prefix, _)| prefix.len())
    }
}

/// Reads the blocks one after the other, and keeps what the checks across blocks need.
struct ServicesReader<'c, 'a> {
    policies: &'c Policies,
    listen: Option<&'c Listen>,
    prefixes: Prefixes,
    /// Every match, with the prefix of its service.
    matches: Vec<(String, Setting<'a>, Match)>,
}

impl<'a> ServicesReader<'_, 'a> {
    fn service(&mut self, name: &str, keys: &mut Section<'_, 'a>) -> Option<Service> {
        let prefix = keys.required("prefix", |v| self.prefix(name, v));
        let upstreams = keys.required("upstreams", |v| self.upstreams(v));
        let balance = keys.optional("balance", balance);
        let mut public_patterns = Patterns::new();
        let public = keys.optional("public", |v| {
            v.list(|v| self.request_match(v, prefix.as_deref(), &mut public_patterns))
        });
        let limits = keys.section("limits", |keys| self.limits(keys));
        let limits = limits.unwrap_or_default();
        let rules = keys.optional("rules", |v| {
            self.rules(v, prefix.as_deref(), &public_patterns, &limits)
        });
        let timeouts = keys.section("timeouts", timeouts);
        let max_body = keys.parse("max_body", size);
        let max_in_flight = keys.parse("max_in_flight", count(1..=1_000_000));
        let attempts = keys.section("retry", |keys| keys.parse("attempts", count(1..=16)));
        let health = keys.section("health", health);
        Some(Service {
            name: name.to_owned(),
            prefix: prefix?,
            upstreams: upstreams?,
            balance: balance.unwrap_or(Balance::RoundRobin),
            public: public.unwrap_or_default(),
            limits,
            rules: rules.unwrap_or_default(),
            timeouts: DEFAULT_TIMEOUTS.with(timeouts?),
            max_body: max_body.unwrap_or(DEFAULT_MAX_BODY),
            max_in_flight: max_in_flight.unwrap_or(DEFAULT_MAX_IN_FLIGHT),
            attempts: attempts.unwrap_or(DEFAULT_ATTEMPTS),
            health: health?,
        })
    }

    fn prefix(&mut self, service: &str, setting: &Setting<'_>) -> Option<String> {
        let prefix = setting.parse(prefix)?;
        let Prefixes(known) = &mut self.prefixes;
        if let Some((_, other)) = known.iter().find(|(other, _)| *other == prefix) {
            return setting.refuse(format!("is the prefix of the service `{other}` already"));
        }
        known.push((prefix.clone(), service.to_owned()));
        Some(prefix)
    }

    fn upstreams(&self, list: &Setting<'_>) -> Option<Vec<HostPort>> {
        let mut seen = Vec::new();
        let upstreams = list.list(|v| {
            let upstream = v.parse(host_port)?;
            if seen.contains(&upstream) {
                return v.refuse(format!("`{upstream}` stands there already"));
            }
            seen.push(upstream.clone());
            if self.is_the_gateway(&upstream) {
                return v.refuse(format!("`{upstream}` is this gateway's own listener"));
            }
            Some(upstream)
        })?;
        match upstreams.is_empty() {
            true => list.refuse("is empty; name at least one host:port"),
            false => Some(upstreams),
        }
    }

    fn is_the_gateway(&self, upstream: &HostPort) -> bool {
        let (Some(listen), Host::Address(address)) = (self.listen, &upstream.host) else {
            return false;
        };
        [listen.http, listen.admin].iter().any(|own: &SocketAddr| {
            let everywhere = own.ip().is_unspecified() && address.is_loopback();
            own.port() == upstream.port && (own.ip() == *address || everywhere)
        })
    }

    fn limits(&self, keys: &mut Section<'_, '_>) -> Option<PolicySet> {
        let authenticated = keys.optional("authenticated", |v| self.policies.list(v));
        let anonymous = keys.optional("anonymous", |v| self.policies.list_for_anonymous(v));
        Some(PolicySet {
            authenticated: authenticated.unwrap_or_default(),
            anonymous: anonymous.unwrap_or_default(),
        })
    }

    /// One match of a list. `patterns` holds the matches before it: no two of a list may match the
    /// same requests.
    fn request_match(
        &mut self,
        setting: &Setting<'a>,
        prefix: Option<&str>,
        patterns: &mut Patterns<()>,
    ) -> Option<Match> {
        let matches = setting.parse(matches)?;
        if patterns.insert(&matches, ()).is_err() {
            setting.refuse::<()>(format!(
                "`{matches}` accepts the same requests as a match before it"
            ));
        }
        if let Some(prefix) = prefix {
            let known = (prefix.to_owned(), setting.clone(), matches.clone());
            self.matches.push(known);
        }
        Some(matches)
    }

    fn rules(
        &mut self,
        list: &Setting<'a>,
        prefix: Option<&str>,
        public: &Patterns<()>,
        limits: &PolicySet,
    ) -> Option<Vec<Rule>> {
        let mut patterns = Patterns::new();
        list.list(|v| {
            v.section(|keys| {
                // The other keys are read even if the match is bad, to report their errors too.
                let matches = match keys.get("match") {
                    Some(v) => self.request_match(&v, prefix, &mut patterns),
                    None => keys.refuse("`match` is missing"),
                };
                // Used as a path, a pattern shows whether its requests are public.
                let is_public = matches
                    .as_ref()
                    .is_some_and(|m| public.find(&m.method, &m.pattern).is_some());
                let of_service = match is_public {
                    true => &limits.anonymous,
                    false => &limits.authenticated,
                };
                self.rule(keys, matches, is_public, of_service)
            })
        })
    }

    /// The rest of a rule whose `match` has been read. `of_service` holds the service's policies
    /// for the callers of this rule.
    fn rule(
        &self,
        keys: &mut Section<'_, 'a>,
        matches: Option<Match>,
        is_public: bool,
        of_service: &[Arc<Policy>],
    ) -> Option<Rule> {
        let changes = ["limits", "cost", "timeouts", "max_body"].map(|key| keys.get(key).is_some());
        if !changes.contains(&true) {
            return keys.refuse("changes nothing; give limits, cost, timeouts or max_body");
        }
        let limits = keys.optional("limits", |v| {
            let policies = self.policies.list(v)?;
            match policies.iter().find(|p| p.key == PolicyKey::User) {
                Some(policy) if is_public => v.refuse(format!(
                    "`{}` is keyed by user, but this match is public and its callers have no \
                     user; use a policy with `key: address`",
                    policy.name
                )),
                _ => Some(policies),
            }
        });
        let limits = limits.unwrap_or_default();
        let cost = keys.optional("cost", |v| {
            let cost = v.parse(count(1..=1_000_000))?;
            let mut policies = of_service.iter().chain(&limits);
            match policies.find(|policy| policy.burst < cost) {
                Some(small) => v.refuse(format!(
                    "no request could ever pass: the burst of `{}` is {}",
                    small.name, small.burst
                )),
                None => Some(cost),
            }
        });
        let timeouts = keys.section("timeouts", timeouts);
        let max_body = keys.parse("max_body", size);
        Some(Rule {
            matches: matches?,
            limits,
            cost: cost.unwrap_or(1),
            timeouts: timeouts?,
            max_body,
        })
    }

    /// Refuses each match below the longer prefix of another service: no request ever reaches it.
    fn refuse_matches_of_other_services(&self) {
        for (prefix, setting, matches) in &self.matches {
            let literal = matches.pattern.split('{').next().unwrap_or_default();
            let path = format!("{prefix}{literal}");
            if let Some((other, owner)) = self.prefixes.longest(&path)
                && other.len() > prefix.len()
            {
                setting.refuse::<()>(format!(
                    "can never match: everything below {other} belongs to the service `{owner}`"
                ));
            }
        }
    }
}

fn balance(setting: &Setting<'_>) -> Option<Balance> {
    if setting.is_map() {
        return setting.section(|keys| {
            let key = keys.required("hash", |v| {
                v.parse(one_of(&[
                    ("user", HashKey::User),
                    ("address", HashKey::Address),
                ]))
            });
            key.map(Balance::Hash)
        });
    }
    setting.parse(|text| {
        one_of(&[
            ("round_robin", Balance::RoundRobin),
            ("least_in_flight", Balance::LeastInFlight),
        ])(text)
        .map_err(|why| format!("{why}, {{hash: user}}, {{hash: address}}"))
    })
}

fn timeouts(keys: &mut Section<'_, '_>) -> Option<TimeoutOverrides> {
    Some(TimeoutOverrides {
        connect: keys.parse("connect", duration),
        first_byte: keys.parse("first_byte", duration),
        idle: keys.parse("idle", duration),
    })
}

fn health(keys: &mut Section<'_, '_>) -> Option<Health> {
    let path = keys.parse("path", literal_path);
    Some(Health {
        path: path.unwrap_or_else(|| "/readyz".to_owned()),
        every: keys
            .parse("every", duration)
            .unwrap_or(DEFAULT_HEALTH_EVERY),
        unhealthy_after: keys.parse("unhealthy_after", count(1..=100)).unwrap_or(2),
        healthy_after: keys.parse("healthy_after", count(1..=100)).unwrap_or(1),
    })
}
