//! The limits that an answer's headers name, and how many requests they let through in a given time.
//!
//! `RateLimit-Policy: "user";q=200;w=2` is a bucket of 200 tokens that fills in two seconds. The
//! window is in whole seconds, so the header is exact only if the burst is a multiple of the rate.

use http::HeaderMap;
use serde::{Deserialize, Serialize};

/// The share of the allowed requests that must have been admitted when many more were sent.
const TIGHT: f64 = 0.99;

/// One policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) quota: u64,
    pub(super) window: u64,
    /// The tokens that were left after this answer.
    pub(super) remaining: u64,
}

impl Policy {
    fn rate(&self) -> f64 {
        self.quota as f64 / self.window as f64
    }
}

/// All policies of one answer. Empty: no limit applied to it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Limits(Vec<Policy>);

impl Limits {
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, String> {
        let text = |name| match headers.get(name).map(|value| value.to_str()) {
            None => Ok(""),
            Some(Ok(text)) => Ok(text),
            Some(Err(_)) => Err(format!("its {name} is not text")),
        };
        Self::parse(text("ratelimit-policy")?, text("ratelimit")?)
    }

    fn parse(policies: &str, limits: &str) -> Result<Self, String> {
        let wrong = || format!("its RateLimit-Policy is `{policies}` and its RateLimit `{limits}`");
        if policies.is_empty() && limits.is_empty() {
            return Ok(Self::default());
        }
        let (mut policies, mut limits) = (policies.split(','), limits.split(','));
        let mut all = Vec::new();
        loop {
            let (policy, limit) = match (policies.next(), limits.next()) {
                (None, None) => return Ok(Self(all)),
                (Some(policy), Some(limit)) => (policy, limit),
                (Some(_), None) | (None, Some(_)) => return Err(wrong()),
            };
            let (name, policy) = item(policy).ok_or_else(wrong)?;
            let (same, limit) = item(limit).ok_or_else(wrong)?;
            let window = number(policy, "w").filter(|w| *w > 0 && name == same);
            all.push(Policy {
                name: name.to_owned(),
                quota: number(policy, "q").ok_or_else(wrong)?,
                window: window.ok_or_else(wrong)?,
                remaining: number(limit, "r").ok_or_else(wrong)?,
            });
        }
    }

    /// Requests a second that the strictest policy admits in the long run; `None` without a policy.
    pub(super) fn rate(&self) -> Option<f64> {
        self.0.iter().map(Policy::rate).reduce(f64::min)
    }

    /// The most requests that may have been admitted within `seconds`. Outages of Redis may add up to
    /// `bursts` full buckets.
    pub(super) fn most(&self, seconds: f64, bursts: u64) -> Option<u64> {
        let most =
            |policy: &Policy| policy.quota as f64 * (1 + bursts) as f64 + policy.rate() * seconds;
        self.0.iter().map(most).reduce(f64::min).map(|n| n as u64)
    }

    /// The fewest requests that must have been admitted within `seconds` after this answer, if far more
    /// were sent all the time.
    pub(super) fn least(&self, seconds: f64) -> Option<u64> {
        let owed = |policy: &Policy| {
            let full = policy.quota as f64 + policy.rate() * seconds;
            full.min(policy.remaining as f64 + policy.rate() * seconds)
        };
        let least = self.0.iter().map(owed).reduce(f64::min);
        least.map(|n| (TIGHT * n) as u64)
    }

    /// Seconds until every bucket is full again.
    pub(super) fn full_in(&self) -> f64 {
        let wait = |policy: &Policy| {
            policy.quota.saturating_sub(policy.remaining) as f64 / policy.rate().max(1e-9)
        };
        self.0.iter().map(wait).fold(0.0, f64::max)
    }
}

impl std::fmt::Display for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, policy) in self.0.iter().enumerate() {
            let separator = if place == 0 { "" } else { ", " };
            let (name, quota) = (&policy.name, policy.quota);
            write!(f, "{separator}{name} {}/s, burst {quota}", policy.rate())?;
        }
        match self.0.is_empty() {
            true => f.write_str("no limit"),
            false => Ok(()),
        }
    }
}

/// `"user";q=200;w=2` → the name and its parameters.
fn item(text: &str) -> Option<(&str, &str)> {
    text.trim().strip_prefix('"')?.split_once('"')
}

fn number(parameters: &str, name: &str) -> Option<u64> {
    parameters
        .split(';')
        .filter_map(|parameter| parameter.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_and_what_is_left_of_them_are_read_together() {
        let limits = Limits::parse(
            r#""user";q=200;w=2, "all";q=10;w=20"#,
            r#""user";r=199;t=1, "all";r=4"#,
        );
        let limits = limits.unwrap();
        assert_eq!(limits.rate(), Some(0.5));
        assert_eq!(limits.0[0].remaining, 199);
        assert_eq!(limits.full_in(), 12.0);
        assert_eq!(
            limits.to_string(),
            "user 100/s, burst 200, all 0.5/s, burst 10"
        );
        assert_eq!(Limits::parse("", ""), Ok(Limits::default()));
    }

    #[test]
    fn headers_that_do_not_belong_together_are_wrong() {
        for (policies, limits) in [
            (r#""user";q=200;w=2"#, ""),
            ("", r#""user";r=1"#),
            (r#""user";q=200;w=0"#, r#""user";r=1"#),
            (r#""user";q=200;w=2"#, r#""other";r=1"#),
            (r#""user";q=200"#, r#""user";r=1"#),
            ("200", "199"),
        ] {
            assert!(
                Limits::parse(policies, limits).is_err(),
                "{policies} {limits}"
            );
        }
    }

    #[test]
    fn the_strictest_policy_bounds_what_may_be_admitted() {
        let limits = Limits::parse(
            r#""user";q=200;w=2, "wide";q=5000;w=1"#,
            r#""user";r=150, "wide";r=5000"#,
        );
        let limits = limits.unwrap();
        assert_eq!(limits.most(10.0, 0), Some(1200));
        assert_eq!(limits.most(10.0, 1), Some(1400));
        assert_eq!(limits.least(10.0), Some(1138));
        assert_eq!(Limits::default().most(10.0, 0), None);
    }
}
