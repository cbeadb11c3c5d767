//! How often passwords may be tried: counters that fill with attempts and empty with time.
//!
//! A counter is one time: when it will be empty again (the generic cell rate algorithm). An attempt
//! moves that time on by [`Quota::every`]; it is refused where that would be more than
//! [`Quota::burst`] attempts away.

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::digest;
use contract::id::UserId;
use jiff::Timestamp;

/// How many attempts at once, and how long until each is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    pub burst: u32,
    pub every: Duration,
}

impl Quota {
    /// From one address to one account: what a person who has forgotten needs, and 1,450 a day.
    pub const ADDRESS: Self = Self {
        burst: 10,
        every: Duration::from_secs(60),
    };
    /// To one account, from all addresses together that never proved to know it.
    pub const ACCOUNT: Self = Self {
        burst: 100,
        every: Duration::from_secs(36),
    };

    /// By whoever is logged in, to their own account.
    pub const OWNER: Self = Self::ADDRESS;
    /// New accounts from one address: each is a hash and a document.
    pub const REGISTRATION: Self = Self {
        burst: 200,
        every: Duration::from_secs(1),
    };

    /// How far from now a counter is empty when it is full.
    pub fn depth(&self) -> Duration {
        self.every * self.burst
    }

    /// Takes an attempt from a counter that is empty at `empty`: when it will be empty then, or how
    /// long this attempt has to wait.
    pub fn take(&self, empty: Option<Timestamp>, now: Timestamp) -> Result<Timestamp, Duration> {
        let next = empty.map_or(now, |empty| empty.max(now)) + self.every;
        let wait = next.duration_since(now + self.depth());
        match Duration::try_from(wait) {
            Ok(wait) if !wait.is_zero() => Err(wait),
            _ => Ok(next),
        }
    }
}

/// What a counter is found by. Hashed: it tells neither address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CounterKey([u8; 32]);

impl CounterKey {
    /// Of an account, whether it exists or not: `account` is what somebody calls it.
    pub fn of_account(account: &str) -> Self {
        Self::of(&[b"account", account.as_bytes()])
    }

    /// Of an account, to those who are logged in.
    pub fn of_owner(id: &UserId) -> Self {
        Self::of(&[b"owner", id.as_str().as_bytes()])
    }

    /// Of one client's registrations.
    pub fn of_registrations(address: &str) -> Self {
        Self::of(&[b"registrations", &network(address)])
    }

    /// Of one client at an account.
    pub fn of_address(account: &str, address: &str) -> Self {
        Self::of(&[b"address", account.as_bytes(), &network(address)])
    }

    fn of(parts: &[&[u8]]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut key = [0; 32];
        key.copy_from_slice(context.finish().as_ref());
        Self(key)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What counts as one client. Who has one IPv6 address usually has a /64 of them.
fn network(address: &str) -> Vec<u8> {
    match address.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V4(ip)) => ip.octets().to_vec(),
        Ok(IpAddr::V6(ip)) => ip.octets()[..8].to_vec(),
        Err(_) => address.as_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const QUOTA: Quota = Quota {
        burst: 3,
        every: Duration::from_secs(10),
    };

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    #[test]
    fn a_burst_passes_and_then_one_each_time_that_one_is_forgotten() {
        let mut empty = None;
        for _ in 0..3 {
            empty = Some(QUOTA.take(empty, at(0)).unwrap());
        }
        assert_eq!(QUOTA.take(empty, at(0)), Err(Duration::from_secs(10)));
        assert_eq!(QUOTA.take(empty, at(9_999)), Err(Duration::from_millis(1)));
        empty = Some(QUOTA.take(empty, at(10_000)).unwrap());
        assert_eq!(QUOTA.take(empty, at(10_000)), Err(Duration::from_secs(10)));
    }

    #[test]
    fn an_ipv6_network_is_one_client_and_an_ipv4_address_is_one() {
        let key = |address| CounterKey::of_address("ada", address);
        assert_eq!(key("2001:db8::1"), key("2001:db8:0:0:ffff::2"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_ne!(key("192.0.2.1"), CounterKey::of_address("eve", "192.0.2.1"));
        assert_ne!(
            CounterKey::of_account("ada"),
            CounterKey::of_address("ada", "")
        );
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_what_time_forgets(
            pauses in prop::collection::vec(0_i64..15_000, 1..80)
        ) {
            let (mut now, mut empty, mut taken) = (0, None, Vec::new());
            for pause in pauses {
                now += pause;
                match QUOTA.take(empty, at(now)) {
                    Ok(next) => {
                        empty = Some(next);
                        taken.push(now);
                    }
                    // Who waits as long as told succeeds.
                    Err(wait) => prop_assert!(QUOTA.take(empty, at(now) + wait).is_ok()),
                }
            }
            for (n, first) in taken.iter().enumerate() {
                for (m, last) in taken.iter().enumerate().skip(n) {
                    prop_assert!((m - n) as i64 <= 2 + (last - first) / 10_000);
                }
            }
        }
    }
}
