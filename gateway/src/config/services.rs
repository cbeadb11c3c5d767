//! `services`: one block each, and what no block can know alone (prefixes, names).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::limits::Policies;
use super::model::{
    Balance, HashKey, Health, Host, HostPort, Listen, Match, PolicyKey, PolicySet, Rule, Service,
    TimeoutOverrides, Timeouts,
};
use super::patterns::Patterns;
use super::scalars::{
    count, duration, host_port, literal_path, matches, name, one_of, prefix, size,
};
use super::value::{Value, closest};

const DEFAULT_TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_millis(500),
    first_byte: Duration::from_secs(30),
    idle: Duration::from_secs(60),
};
const DEFAULT_MAX_BODY: u64 = 1 << 20;
const DEFAULT_MAX_IN_FLIGHT: u32 = 1024;
const DEFAULT_ATTEMPTS: u32 = 2;
const DEFAULT_HEALTH_EVERY: Duration = Duration::from_secs(1);

/// The services that could be read, and the names and prefixes of all that are declared.
pub(super) struct Services {
    pub(super) all: Vec<Arc<Service>>,
    declared: Vec<String>,
    /// Prefix and name.
    prefixes: Vec<(String, String)>,
}

/// What the blocks are read with.
struct Context<'c, 'a> {
    policies: &'c Policies,
    listen: Option<&'c Listen>,
    services: Services,
    /// Every match: the prefix of its service, its place, itself.
    matches: Vec<(String, Value<'a>, Match)>,
}

impl Services {
    pub(super) fn read(
        value: &Value<'_>,
        policies: &Policies,
        listen: Option<&Listen>,
    ) -> Option<Self> {
        let mut context = Context {
            policies,
            listen,
            services: Self {
                all: Vec::new(),
                declared: Vec::new(),
                prefixes: Vec::new(),
            },
            matches: Vec::new(),
        };
        let count = value.named(|name, v| {
            context.services.declared.push(name.to_owned());
            if let Some(service) = context.service(name, v) {
                context.services.all.push(Arc::new(service));
            }
            Some(())
        })?;
        if count.is_empty() {
            return value.refuse("names no service; nothing could be reached");
        }
        context.refuse_matches_of_other_services();
        Some(context.services)
    }

    /// The service that `value` names.
    pub(super) fn named(&self, value: &Value<'_>) -> Option<Arc<Service>> {
        let name = value.text()?;
        if !self.declared.contains(&name) {
            let declared = self.declared.iter().map(String::as_str);
            return value.refuse(match closest(&name, declared) {
                Some(known) => format!("no service is called `{name}`; did you mean `{known}`?"),
                None => format!("no service is called `{name}`; declare it in `services`"),
            });
        }
        self.all
            .iter()
            .find(|service| service.name == name)
            .cloned()
    }

    /// The name of the service that `path` belongs to: the longest prefix counts.
    pub(super) fn owner(&self, path: &str) -> Option<&str> {
        let candidates = self
            .prefixes
            .iter()
            .filter(|(prefix, _)| lies_below(path, prefix));
        let (_, name) = candidates.max_by_key(|(prefix, _)| prefix.len())?;
        Some(name)
    }
}

/// Whether `path` is `prefix` or below it, by whole segments.
fn lies_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl<'a> Context<'_, 'a> {
    fn service(&mut self, service: &str, value: &Value<'a>) -> Option<Service> {
        if let Err(why) = name(service) {
            return value.refuse(why);
        }
        value.section(|keys| {
            let prefix = keys.required("prefix", |v| self.prefix(service, v));
            let upstreams = keys.required("upstreams", |v| self.upstreams(v));
            let balance = keys.optional("balance", balance);
            let public = keys.optional("public", |v| {
                let itself = |v: &Value<'a>| Some(v.clone());
                self.matches(v, prefix.as_deref(), itself, |_, matches, _| matches)
            });
            let public = public.unwrap_or_default();
            let limits = keys.optional("limits", |v| self.limits(v));
            let rules = keys.optional("rules", |v| {
                let limits = limits.clone().unwrap_or_default();
                self.rules(v, prefix.as_deref(), &public, &limits)
            });
            let timeouts = keys.optional("timeouts", timeouts);
            let max_body = keys.optional("max_body", |v| v.parse(size));
            let max_in_flight = keys.optional("max_in_flight", |v| v.parse(count(1..=1_000_000)));
            let attempts = keys.optional("retry", |v| {
                v.section(|keys| keys.optional("attempts", |v| v.parse(count(1..=16))))
            });
            let health = keys.optional("health", health);
            Some(Service {
                name: service.to_owned(),
                prefix: prefix?,
                upstreams: upstreams?,
                balance: balance.unwrap_or(Balance::RoundRobin),
                public,
                limits: limits.unwrap_or_default(),
                rules: rules.unwrap_or_default(),
                timeouts: DEFAULT_TIMEOUTS.with(timeouts.unwrap_or_default()),
                max_body: max_body.unwrap_or(DEFAULT_MAX_BODY),
                max_in_flight: max_in_flight.unwrap_or(DEFAULT_MAX_IN_FLIGHT),
                attempts: attempts.unwrap_or(DEFAULT_ATTEMPTS),
                health: health.unwrap_or_else(default_health),
            })
        })
    }

    fn prefix(&mut self, service: &str, value: &Value<'_>) -> Option<String> {
        let prefix = value.parse(prefix)?;
        let prefixes = &mut self.services.prefixes;
        if let Some((_, other)) = prefixes.iter().find(|(other, _)| *other == prefix) {
            return value.refuse(format!("is the prefix of the service `{other}` already"));
        }
        prefixes.push((prefix.clone(), service.to_owned()));
        Some(prefix)
    }

    fn upstreams(&self, value: &Value<'_>) -> Option<Vec<HostPort>> {
        let mut seen = Vec::new();
        let upstreams = value.list(|v| {
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
            true => value.refuse("is empty; name at least one host:port"),
            false => Some(upstreams),
        }
    }

    fn is_the_gateway(&self, upstream: &HostPort) -> bool {
        let Host::Address(address) = upstream.host else {
            return false;
        };
        let upstream = SocketAddr::new(address, upstream.port);
        self.listen.is_some_and(|listen| {
            [listen.http, listen.admin].iter().any(|own| {
                let everywhere = own.ip().is_unspecified() && address.is_loopback();
                own.port() == upstream.port() && (own.ip() == address || everywhere)
            })
        })
    }

    /// A list of things with a match. No two of the list may match the same requests.
    fn matches<T>(
        &mut self,
        value: &Value<'a>,
        prefix: Option<&str>,
        locate: impl Fn(&Value<'a>) -> Option<Value<'a>>,
        mut build: impl FnMut(&Self, Option<Match>, &Value<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let mut patterns = Patterns::new();
        value.list(|v| {
            let place = locate(v)?;
            let matches = place.parse(matches);
            if let Some(matches) = &matches {
                if patterns.insert(matches, ()).is_err() {
                    place.refuse::<()>(format!(
                        "`{matches}` accepts the same requests as a match before it"
                    ));
                }
                if let Some(prefix) = prefix {
                    let known = (prefix.to_owned(), place, matches.clone());
                    self.matches.push(known);
                }
            }
            // What stands beside a bad match is read nevertheless, for its own errors.
            build(self, matches, v)
        })
    }

    fn rules(
        &mut self,
        value: &Value<'a>,
        prefix: Option<&str>,
        public: &[Match],
        of_service: &PolicySet,
    ) -> Option<Vec<Rule>> {
        let mut public_patterns = Patterns::new();
        for matches in public {
            // A collision has been reported where it stands.
            if public_patterns.insert(matches, ()).is_err() {
                continue;
            }
        }
        let locate = |v: &Value<'a>| v.section_value("match");
        self.matches(value, prefix, locate, |this, matches, v| {
            v.section(|keys| {
                keys.get("match");
                // Read as a path, a pattern shows whether its requests are public.
                let is_public = matches
                    .as_ref()
                    .is_some_and(|m| public_patterns.find(&m.method, &m.pattern).is_some());
                let limits = keys.get("limits");
                let cost = keys.get("cost");
                let timeouts = keys.get("timeouts");
                let max_body = keys.get("max_body");
                if limits.is_none() && cost.is_none() && timeouts.is_none() && max_body.is_none() {
                    return keys.refuse("changes nothing; give limits, cost, timeouts or max_body");
                }
                let limits = limits.map(|v| {
                    let policies = this.policies.list(&v)?;
                    let by_user = policies.iter().find(|p| p.key == PolicyKey::User);
                    match by_user {
                        Some(policy) if is_public => v.refuse(format!(
                            "`{}` is keyed by user, but this match is public and its callers \
                             have no user; use a policy with `key: address`",
                            policy.name
                        )),
                        _ => Some(policies),
                    }
                });
                let limits = limits.flatten().unwrap_or_default();
                let cost = cost.and_then(|v| {
                    let cost = v.parse(count(1..=1_000_000))?;
                    let PolicySet {
                        authenticated,
                        anonymous,
                    } = of_service;
                    let callers = if is_public { anonymous } else { authenticated };
                    let mut all = callers.iter().chain(&limits);
                    match all.find(|policy| policy.burst < cost) {
                        Some(small) => v.refuse(format!(
                            "no request could ever pass: the burst of `{}` is {}",
                            small.name, small.burst
                        )),
                        None => Some(cost),
                    }
                });
                let timeouts = timeouts.and_then(|v| self::timeouts(&v));
                let max_body = max_body.and_then(|v| v.parse(size));
                Some(Rule {
                    matches: matches?,
                    limits,
                    cost: cost.unwrap_or(1),
                    timeouts: timeouts.unwrap_or_default(),
                    max_body,
                })
            })
        })
    }

    fn limits(&self, value: &Value<'_>) -> Option<PolicySet> {
        value.section(|keys| {
            let authenticated = keys.optional("authenticated", |v| self.policies.list(v));
            let anonymous = keys.optional("anonymous", |v| self.policies.list_for_anonymous(v));
            Some(PolicySet {
                authenticated: authenticated.unwrap_or_default(),
                anonymous: anonymous.unwrap_or_default(),
            })
        })
    }

    /// A match below the longer prefix of another service would never be asked.
    fn refuse_matches_of_other_services(&self) {
        for (prefix, place, matches) in &self.matches {
            let literal = matches.pattern.split('{').next().unwrap_or_default();
            let path = format!("{prefix}{literal}");
            let others = self.services.prefixes.iter();
            let owner = others
                .filter(|(other, _)| other.len() > prefix.len() && lies_below(&path, other))
                .max_by_key(|(other, _)| other.len());
            if let Some((other, owner)) = owner {
                place.refuse::<()>(format!(
                    "can never match: everything below {other} belongs to the service `{owner}`"
                ));
            }
        }
    }
}

fn balance(value: &Value<'_>) -> Option<Balance> {
    if value.is_map() {
        return value.section(|keys| {
            let key = keys.required("hash", |v| {
                v.parse(one_of(&[
                    ("user", HashKey::User),
                    ("address", HashKey::Address),
                ]))
            });
            key.map(Balance::Hash)
        });
    }
    value.parse(|text| {
        one_of(&[
            ("round_robin", Balance::RoundRobin),
            ("least_in_flight", Balance::LeastInFlight),
        ])(text)
        .map_err(|why| format!("{why}, {{hash: user}}, {{hash: address}}"))
    })
}

fn timeouts(value: &Value<'_>) -> Option<TimeoutOverrides> {
    value.section(|keys| {
        Some(TimeoutOverrides {
            connect: keys.optional("connect", |v| v.parse(duration)),
            first_byte: keys.optional("first_byte", |v| v.parse(duration)),
            idle: keys.optional("idle", |v| v.parse(duration)),
        })
    })
}

fn health(value: &Value<'_>) -> Option<Health> {
    value.section(|keys| {
        let default = default_health();
        let path = keys.optional("path", |v| v.parse(literal_path));
        let every = keys.optional("every", |v| v.parse(duration));
        let unhealthy_after = keys.optional("unhealthy_after", |v| v.parse(count(1..=100)));
        let healthy_after = keys.optional("healthy_after", |v| v.parse(count(1..=100)));
        Some(Health {
            path: path.unwrap_or(default.path),
            every: every.unwrap_or(default.every),
            unhealthy_after: unhealthy_after.unwrap_or(default.unhealthy_after),
            healthy_after: healthy_after.unwrap_or(default.healthy_after),
        })
    })
}

fn default_health() -> Health {
    Health {
        path: "/readyz".to_owned(),
        every: DEFAULT_HEALTH_EVERY,
        unhealthy_after: 2,
        healthy_after: 1,
    }
}
