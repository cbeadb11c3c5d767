//! `limits`: the policies, and the lists that name them.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::declared::Declared;
use super::model::{FailureMode, Limits, Policy, PolicyKey};
use super::scalars::{count, flag, one_of, rate};
use super::setting::{Section, Setting};

const DEFAULT_IPV6_PREFIX: u8 = 64;

/// The section `limits`.
pub(super) struct Policies {
    pub(super) gateways: NonZeroU32,
    declared: Declared<Policy>,
}

impl Policies {
    pub(super) fn read(root: &mut Section<'_, '_>) -> Self {
        let (mut gateways, mut declared) = (None, None);
        root.section("limits", |keys| {
            gateways = keys.parse("gateways", count(1..=1000));
            declared = keys.optional("policies", |v| Declared::read(v, policy));
            Some(())
        });
        Self {
            gateways: gateways
                .and_then(NonZeroU32::new)
                .unwrap_or(NonZeroU32::MIN),
            declared: declared.unwrap_or_else(Declared::nothing),
        }
    }

    pub(super) fn are_declared(&self) -> bool {
        !self.declared.is_empty()
    }

    pub(super) fn into_limits(self) -> Limits {
        Limits {
            gateways: self.gateways,
            policies: self.declared.into_good().collect(),
        }
    }

    /// A list of policies, each once.
    pub(super) fn list(&self, names: &Setting<'_>) -> Option<Vec<Arc<Policy>>> {
        let mut seen = Vec::new();
        names.list(|name| {
            let policy = self.find(name)?;
            if seen.contains(&policy.name) {
                return name.refuse(format!("`{}` stands there already", policy.name));
            }
            seen.push(policy.name.clone());
            Some(policy)
        })
    }

    /// A list of policies for callers without a user.
    pub(super) fn list_for_anonymous(&self, names: &Setting<'_>) -> Option<Vec<Arc<Policy>>> {
        names.list(|name| {
            let policy = self.find(name)?;
            match policy.key {
                PolicyKey::User => name.refuse(format!(
                    "`{}` is keyed by user, and these callers have none; use a policy with \
                     `key: address`",
                    policy.name
                )),
                PolicyKey::Address { .. } | PolicyKey::Global => Some(policy),
            }
        })
    }

    fn find(&self, name: &Setting<'_>) -> Option<Arc<Policy>> {
        self.declared.find(name, "policy", "limits.policies")
    }
}

/// One policy, `{key: user, rate: 100/s, burst: 200}`.
fn policy(name: &str, keys: &mut Section<'_, '_>) -> Option<Policy> {
    let key = policy_key(keys);
    let rate = keys.required("rate", |v| v.parse(rate));
    let burst = keys.parse("burst", count(1..=u32::MAX));
    let on_redis_failure = keys.parse(
        "on_redis_failure",
        one_of(&[
            ("local", FailureMode::Local),
            ("deny", FailureMode::Deny),
            ("allow", FailureMode::Allow),
        ]),
    );
    let max_in_flight = keys.parse("max_in_flight", count(1..=1_000_000));
    let shadow = keys.parse("shadow", flag);
    let rate = rate?;
    Some(Policy {
        name: name.to_owned(),
        key: key?,
        rate,
        burst: burst.unwrap_or(rate.tokens),
        on_redis_failure: on_redis_failure.unwrap_or(FailureMode::Local),
        max_in_flight,
        shadow: shadow.unwrap_or_default(),
    })
}

fn policy_key(keys: &mut Section<'_, '_>) -> Option<PolicyKey> {
    let by_address = PolicyKey::Address {
        ipv6_prefix: DEFAULT_IPV6_PREFIX,
    };
    let key = keys.required("key", |v| {
        v.parse(one_of(&[
            ("user", PolicyKey::User),
            ("address", by_address),
            ("global", PolicyKey::Global),
        ]))
    });
    let ipv6_prefix = keys.get("ipv6_prefix");
    match (key?, ipv6_prefix) {
        (PolicyKey::Address { .. }, Some(prefix)) => {
            let bits = prefix.parse(count(1..=128))?;
            let ipv6_prefix = u8::try_from(bits).ok()?;
            Some(PolicyKey::Address { ipv6_prefix })
        }
        (_, Some(prefix)) => {
            prefix.refuse("only means something with `key: address`; leave it out")
        }
        (key, None) => Some(key),
    }
}
