//! Limits how often passwords may be tried, with counters that attempts fill and time empties.
//!
//! A counter is stored as a single time: when it will be empty (the generic cell rate algorithm).
//! Each attempt adds [`Quota::every`] to that time. An attempt is refused if the counter would then
//! hold more than [`Quota::burst`] attempts. Pure: stores keep the counters and call
//! [`Quota::take`].

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::digest;
use contract::id::UserId;
use jiff::Timestamp;

/// A limit: `burst` attempts at once, and one more for every `every` that passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    pub burst: u32,
    pub every: Duration,
}

impl Quota {
    /// From one client address to one account: enough for a person who has forgotten the password,
    /// and at most 1,450 a day.
    pub const ADDRESS: Self = Self {
        burst: 10,
        every: Duration::from_secs(60),
    };
    /// To one account, from all client addresses together at which nobody has known the password
    /// lately.
    pub const ACCOUNT: Self = Self {
        burst: 100,
        every: Duration::from_secs(36),
    };

    /// To the caller's own account, while logged in.
    pub const OWNER: Self = Self::ADDRESS;
    /// New accounts from one client address. Each costs a hash and a document.
    pub const REGISTRATION: Self = Self {
        burst: 200,
        every: Duration::from_secs(1),
    };

    /// How long a full counter takes to empty.
    pub fn depth(&self) -> Duration {
        self.every * self.burst
    }

    /// Counts an attempt on a counter that will be empty at `empty`. Returns the new time at which it
    /// will be empty, or an error with the time to wait.
    pub fn take(&self, empty: Option<Timestamp>, now: Timestamp) -> Result<Timestamp, Duration> {
        let next = empty.map_or(now, |empty| empty.max(now)) + self.every;
        let wait = next.duration_since(now + self.depth());
        match Duration::try_from(wait) {
            Ok(wait) if !wait.is_zero() => Err(wait),
            _ => Ok(next),
        }
    }
}

/// The key of a counter: a hash, so that it reveals neither an e-mail address nor a client address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CounterKey([u8; 32]);

impl CounterKey {
    /// The counter of an account. `account` is the key of the e-mail address, or the text as sent;
    /// the account need not exist.
    pub fn of_account(account: &str) -> Self {
        Self::of(&[b"account", account.as_bytes()])
    }

    /// The counter of an account for attempts by its logged-in owner.
    pub fn of_owner(id: &UserId) -> Self {
        Self::of(&[b"owner", id.as_str().as_bytes()])
    }

    /// The counter of one client's registrations.
    pub fn of_registrations(address: &str) -> Self {
        Self::of(&[b"registrations", &network(address)])
    }

    /// The counter of one client's attempts at one account.
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

/// The bytes that identify a client: an IPv4 address or an IPv6 /64, because whoever has one IPv6
/// address usually has the whole /64.
fn network(address: &str) -> Vec<u8> {
    match address.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V4(ip)) => ip.octets().to_vec(),
        Ok(IpAddr::V6(ip)) => ip.octets()[..8].to_vec(),
        Err(_) => address.as_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
                    // An attempt succeeds after the reported wait.
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
