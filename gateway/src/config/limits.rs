//! `limits`: the policies, and their names wherever services use them.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::model::{FailureMode, Limits, Policy, PolicyKey};
use super::scalars::{count, name, one_of, rate};
use super::value::{Section, Value, closest};

const DEFAULT_IPV6_PREFIX: u8 = 64;

/// The policies that could be read, and the names of all that are declared: a policy with an error
/// of its own is not reported again wherever it is used.
pub(super) struct Policies {
    pub(super) limits: Limits,
    declared: Vec<String>,
}

impl Policies {
    /// Reads the key `limits` of the root.
    pub(super) fn read(root: &mut Section<'_, '_>) -> Self {
        let mut declared = Vec::new();
        let limits = root.optional("limits", |v| v.section(|keys| limits(keys, &mut declared)));
        Self {
            limits: limits.unwrap_or(Limits {
                gateways: NonZeroU32::MIN,
                policies: Default::default(),
            }),
            declared,
        }
    }

    pub(super) fn are_declared(&self) -> bool {
        !self.declared.is_empty()
    }

    /// A list of names, each once.
    pub(super) fn list(&self, value: &Value<'_>) -> Option<Vec<Arc<Policy>>> {
        let mut seen = Vec::new();
        value.list(|v| {
            let policy = self.named(v)?;
            if seen.contains(&policy.name) {
                return v.refuse(format!("`{}` stands there already", policy.name));
            }
            seen.push(policy.name.clone());
            Some(policy)
        })
    }

    /// A list for callers without a user.
    pub(super) fn list_for_anonymous(&self, value: &Value<'_>) -> Option<Vec<Arc<Policy>>> {
        value.list(|v| {
            let policy = self.named(v)?;
            match policy.key {
                PolicyKey::User => v.refuse(format!(
                    "`{}` is keyed by user, and these callers have none; use a policy with \
                     `key: address`",
                    policy.name
                )),
                PolicyKey::Address { .. } | PolicyKey::Global => Some(policy),
            }
        })
    }

    fn named(&self, value: &Value<'_>) -> Option<Arc<Policy>> {
        let name = value.text()?;
        if !self.declared.contains(&name) {
            let declared = self.declared.iter().map(String::as_str);
            return value.refuse(match closest(&name, declared) {
                Some(known) => format!("no policy is called `{name}`; did you mean `{known}`?"),
                None => format!("no policy is called `{name}`; declare it in `limits.policies`"),
            });
        }
        self.limits.policies.get(&name).cloned()
    }
}

fn limits(keys: &mut Section<'_, '_>, declared: &mut Vec<String>) -> Option<Limits> {
    let gateways = keys.optional("gateways", |v| v.parse(count(1..=1000)));
    let mut policies = Vec::new();
    keys.optional("policies", |v| {
        v.named(|name, v| {
            declared.push(name.to_owned());
            policies.push((name.to_owned(), policy(name, v)?));
            Some(())
        })
    });
    Some(Limits {
        gateways: gateways
            .and_then(NonZeroU32::new)
            .unwrap_or(NonZeroU32::MIN),
        policies: policies.into_iter().collect(),
    })
}

/// One policy, `{key: user, rate: 100/s, burst: 200}`.
fn policy(policy: &str, value: &Value<'_>) -> Option<Arc<Policy>> {
    if let Err(why) = name(policy) {
        return value.refuse(why);
    }
    value.section(|keys| {
        let key = keys.required("key", |v| {
            v.parse(one_of(&[
                ("user", PolicyKey::User),
                (
                    "address",
                    PolicyKey::Address {
                        ipv6_prefix: DEFAULT_IPV6_PREFIX,
                    },
                ),
                ("global", PolicyKey::Global),
            ]))
        });
        let key = match (key, keys.get("ipv6_prefix")) {
            (Some(PolicyKey::Address { .. }), Some(prefix)) => prefix
                .parse(count(1..=128))
                .and_then(|bits| u8::try_from(bits).ok())
                .map(|ipv6_prefix| PolicyKey::Address { ipv6_prefix }),
            (Some(_), Some(prefix)) => {
                prefix.refuse("only means something with `key: address`; leave it out")
            }
            (key, _) => key,
        };
        let rate = keys.required("rate", |v| v.parse(rate));
        let burst = keys.optional("burst", |v| v.parse(count(1..=u32::MAX)));
        let on_redis_failure = keys.optional("on_redis_failure", |v| {
            v.parse(one_of(&[
                ("local", FailureMode::Local),
                ("deny", FailureMode::Deny),
                ("allow", FailureMode::Allow),
            ]))
        });
        let max_in_flight = keys.optional("max_in_flight", |v| v.parse(count(1..=1_000_000)));
        let shadow = keys.optional("shadow", |v| {
            v.parse(one_of(&[("true", true), ("false", false)]))
        });
        let rate = rate?;
        Some(Arc::new(Policy {
            name: policy.to_owned(),
            key: key?,
            rate,
            burst: burst.unwrap_or(rate.tokens),
            on_redis_failure: on_redis_failure.unwrap_or(FailureMode::Local),
            max_in_flight,
            shadow: shadow.unwrap_or_default(),
        }))
    })
}
