//! Sessions: a login on one device, kept alive by refresh tokens. Pure; handlers and stores call
//! it.

use std::time::Duration;

use contract::id::{SessionId, UserId};
use jiff::Timestamp;

use super::refresh::{RefreshToken, TokenFamily};
use super::user::User;

/// How long a session lives after its last refresh.
pub const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a session lives however often it is refreshed: everybody enters the password once a
/// year.
pub const LONGEST_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

const MAX_DEVICE_CHARS: usize = 256;

/// A login on one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub id: SessionId,
    pub user_id: UserId,
    /// [`User::generation`] at the login.
    pub generation: u64,
    pub family: TokenFamily,
    /// What the client calls itself (`User-Agent`).
    pub device: String,
    pub address: String,
    pub created_at: Timestamp,
    pub last_used_at: Timestamp,
    pub expires_at: Timestamp,
}

impl Session {
    /// A new session and its first refresh token. `None` if the system gives no random bytes.
    pub fn start(
        user: &User,
        device: &str,
        address: &str,
        now: Timestamp,
    ) -> Option<(Self, RefreshToken)> {
        let (family, token) = TokenFamily::start()?;
        let session = Self {
            id: SessionId::new(),
            user_id: user.id.clone(),
            generation: user.generation,
            family,
            device: bounded(device),
            address: address.to_owned(),
            created_at: now,
            last_used_at: now,
            expires_at: now + LIFETIME,
        };
        Some((session, token))
    }

    /// The session after a refresh.
    #[must_use]
    pub fn refreshed(
        &self,
        family: TokenFamily,
        device: &str,
        address: &str,
        now: Timestamp,
    ) -> Self {
        Self {
            family,
            device: bounded(device),
            address: address.to_owned(),
            last_used_at: now.max(self.last_used_at),
            expires_at: (now + LIFETIME).min(self.created_at + LONGEST_LIFE),
            ..self.clone()
        }
    }

    /// Whether this session, which was not ended itself, is still valid for `user`: it has not
    /// expired, and the password has not changed since the login, unless this session changed it.
    pub fn is_alive(&self, user: &User, now: Timestamp) -> bool {
        let same_password = self.generation == user.generation;
        let changed_it = user.kept_session.as_ref() == Some(&self.id);
        self.user_id == user.id && now < self.expires_at && (same_password || changed_it)
    }
}

fn bounded(device: &str) -> String {
    device.chars().take(MAX_DEVICE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Email, Name, PasswordHash};

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn user() -> User {
        User::new(
            Email::parse("ada@example.org").unwrap(),
            Name::parse("Ada").unwrap(),
            PasswordHash::new("$hash"),
            None,
            Timestamp::UNIX_EPOCH,
        )
    }

    fn start(user: &User) -> Session {
        let now = Timestamp::UNIX_EPOCH;
        Session::start(user, "curl/8", "203.0.113.7", now)
            .unwrap()
            .0
    }

    #[test]
    fn a_session_lives_thirty_days_since_its_last_use_and_a_year_at_most() {
        let user = user();
        let mut session = start(&user);
        let mut now = session.created_at;
        assert!(session.is_alive(&user, now + 30 * DAY - Duration::from_millis(1)));
        assert!(!session.is_alive(&user, now + 30 * DAY));
        for _ in 0..18 {
            now += 20 * DAY;
            assert!(session.is_alive(&user, now));
            session = session.refreshed(session.family.clone(), "curl/8", "203.0.113.7", now);
            assert_eq!(session.last_used_at, now);
        }
        assert_eq!(session.expires_at, session.created_at + 365 * DAY);
    }

    #[test]
    fn a_device_is_cut_to_what_a_list_can_show() {
        let now = Timestamp::UNIX_EPOCH;
        let (session, _) = Session::start(&user(), &"ü".repeat(300), "::1", now).unwrap();
        assert_eq!(session.device.chars().count(), 256);
        let session = session.refreshed(session.family.clone(), &"ü".repeat(300), "::2", now);
        assert_eq!(session.device.chars().count(), 256);
        assert_eq!(session.address, "::2");
    }

    #[test]
    fn another_password_ends_all_sessions_but_the_one_that_chose_it() {
        let mut user = user();
        let (kept, other) = (start(&user), start(&user));
        let alive = |session: &Session, user: &User| session.is_alive(user, Timestamp::UNIX_EPOCH);
        user.generation += 1;
        user.kept_session = Some(kept.id.clone());
        assert!(alive(&kept, &user) && !alive(&other, &user));
        let later = start(&user);
        assert!(alive(&later, &user));
        user.generation += 1;
        user.kept_session = Some(later.id.clone());
        assert!(alive(&later, &user) && !alive(&kept, &user));
    }

    #[test]
    fn nobody_else_is_at_home_in_a_session() {
        let (ada, eve) = (user(), user());
        assert!(!start(&ada).is_alive(&eve, Timestamp::UNIX_EPOCH));
    }
}
