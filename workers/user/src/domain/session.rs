//! Sessions: one login on one device, and the refresh token that keeps it alive.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::{digest, rand};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use shared::id::{SessionId, UserId};

/// How long a session lives without being refreshed.
pub const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

const MAX_DEVICE_CHARS: usize = 256;

/// A login, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub id: SessionId,
    pub user_id: UserId,
    /// Finds the session of a refresh token, whichever of its generations is shown.
    pub family: TokenHash,
    /// The refresh token that is valid now.
    pub refresh: TokenHash,
    /// What the client calls itself (`User-Agent`).
    pub device: String,
    pub address: String,
    pub created_at: Timestamp,
    pub last_used_at: Timestamp,
    pub expires_at: Timestamp,
}

impl Session {
    /// A new session that this token can refresh.
    pub fn new(
        user_id: UserId,
        token: &RefreshToken,
        device: &str,
        address: &str,
        now: Timestamp,
    ) -> Self {
        Self {
            id: SessionId::new(),
            user_id,
            family: token.family_hash(),
            refresh: token.hash(),
            device: device.chars().take(MAX_DEVICE_CHARS).collect(),
            address: address.to_owned(),
            created_at: now,
            last_used_at: now,
            expires_at: now + LIFETIME,
        }
    }
}

/// What a client shows to get new tokens: 128 random bits that stay for the session's life, so that
/// an old token is recognised as one, and 256 that change with each rotation. Told to the client
/// once; only hashes are kept.
pub struct RefreshToken([u8; Self::BYTES]);

impl RefreshToken {
    const FAMILY_BYTES: usize = 16;
    const BYTES: usize = Self::FAMILY_BYTES + 32;

    /// The first token of a new session. `None` when the system gives no random bytes.
    pub fn generate() -> Option<Self> {
        let mut bytes = [0; Self::BYTES];
        rand::fill(&mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// What the client is told.
    pub fn expose(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.0)
    }

    fn family_hash(&self) -> TokenHash {
        TokenHash::of(&self.0[..Self::FAMILY_BYTES])
    }

    fn hash(&self) -> TokenHash {
        TokenHash::of(&self.0)
    }
}

/// The SHA-256 of random bytes: they need no salt and no stretching.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    fn of(bytes: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
        Self(hash)
    }

    /// Takes what a store kept; `None` where it is no such hash.
    pub fn stored(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_keeps_hashes_of_its_token_and_lives_thirty_days() {
        let token = RefreshToken::generate().unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let session = Session::new(UserId::new(), &token, &"ü".repeat(300), "203.0.113.7", now);
        let told = BASE64_URL_SAFE_NO_PAD.decode(token.expose()).unwrap();
        assert_eq!(session.refresh, TokenHash::of(&told));
        assert_eq!(session.family, TokenHash::of(&told[..16]));
        assert_eq!(session.expires_at.as_second(), 30 * 24 * 3600);
        assert_eq!(session.device.chars().count(), 256);
        assert_ne!(RefreshToken::generate().unwrap().expose(), token.expose());
    }
}
