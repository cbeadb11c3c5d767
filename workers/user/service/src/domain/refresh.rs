//! Refresh tokens: rotation, and the detection of replays.
//!
//! A token's successor is computed from the token and the session's salt. Requests that present the
//! same token at the same moment therefore get the same successor, from any worker. No token has to
//! be stored: nobody can compute a token from the stored hashes and salt, or from an old token
//! without the salt. Pure except for random bytes; the refresh handler decides with it.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::{digest, hmac, rand};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;

/// How long a token stays valid after it was replaced: parallel requests arrive in any order, and
/// an answer can get lost.
pub const GRACE: Duration = Duration::from_secs(10);
/// The most replacements within [`GRACE`] that a session remembers. With more, the oldest tokens
/// lose their grace early.
const MAX_REPLACED: usize = 128;

/// What a client presents to get new tokens: 128 random bits that are the same in all tokens of the
/// session, so that an old token is recognised, and 256 bits that change with each rotation. The
/// client receives it once; the store keeps only hashes.
#[derive(Clone)]
pub struct RefreshToken([u8; Self::BYTES]);

impl RefreshToken {
    const FAMILY_BYTES: usize = 16;
    const BYTES: usize = Self::FAMILY_BYTES + 32;

    /// Parses a client's text; `None` if it cannot be a token of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        bytes.try_into().ok().map(Self)
    }

    /// The token's text, for the client.
    pub fn expose(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.0)
    }

    /// The hash of the bits that all tokens of a session share. It finds the session.
    pub fn family_id(&self) -> TokenHash {
        TokenHash::of(&self.0[..Self::FAMILY_BYTES])
    }

    fn hash(&self) -> TokenHash {
        TokenHash::of(&self.0)
    }

    fn successor(&self, salt: &Salt) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &salt.0);
        let mut next = self.clone();
        next.0[Self::FAMILY_BYTES..].copy_from_slice(hmac::sign(&key, &self.0).as_ref());
        next
    }
}

/// All refresh tokens of one session, as far as the session keeps them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenFamily {
    pub id: TokenHash,
    /// The hash of the token that has no successor yet.
    pub current: TokenHash,
    /// `None` in sessions that were made before tokens could be refreshed.
    pub salt: Option<Salt>,
    /// When the tokens before `current` were replaced, oldest first.
    pub replaced: Vec<Timestamp>,
}

/// What a presented token turns out to be.
#[derive(Clone)]
pub enum Presented {
    /// The current token. `token` replaces it once `next` is stored.
    Current {
        next: TokenFamily,
        token: RefreshToken,
    },
    /// A token that was replaced within [`GRACE`]. Contains the current token.
    Recent(RefreshToken),
    /// A token that was replaced earlier, or a forged one. Somebody has probably stolen a token,
    /// and nobody can tell which of the two clients is the thief.
    Replayed,
}

impl TokenFamily {
    /// A new session's family and its first token. `None` if the system gives no random bytes.
    pub fn start() -> Option<(Self, RefreshToken)> {
        let (mut token, mut salt) = ([0; RefreshToken::BYTES], [0; 32]);
        rand::fill(&mut token).ok()?;
        rand::fill(&mut salt).ok()?;
        let token = RefreshToken(token);
        let family = Self {
            id: token.family_id(),
            current: token.hash(),
            salt: Some(Salt(salt)),
            replaced: Vec::new(),
        };
        Some((family, token))
    }

    /// Decides what a token of this family is at `now`.
    pub fn check(&self, presented: &RefreshToken, now: Timestamp) -> Presented {
        let Some(salt) = &self.salt else {
            return Presented::Replayed;
        };
        let mut token = presented.clone();
        for age in 0..=self.replaced.len() {
            let next = token.successor(salt);
            if token.hash() == self.current {
                let replaced = self.replaced.len().checked_sub(age);
                return match replaced.and_then(|n| self.replaced.get(n)) {
                    None => Presented::Current {
                        next: self.replaced_by(&next, now),
                        token: next,
                    },
                    Some(at) if is_recent(*at, now) => Presented::Recent(token),
                    Some(_) => Presented::Replayed,
                };
            }
            token = next;
        }
        Presented::Replayed
    }

    fn replaced_by(&self, next: &RefreshToken, now: Timestamp) -> Self {
        let surplus = (self.replaced.len() + 1).saturating_sub(MAX_REPLACED);
        // Drop times from the front only, because a time's position tells which token it belongs
        // to.
        let kept = self.replaced.iter().skip(surplus);
        let kept = kept.skip_while(|at| !is_recent(**at, now)).copied();
        Self {
            current: next.hash(),
            replaced: kept.chain([now]).collect(),
            ..self.clone()
        }
    }
}

/// The times may come from two workers. The difference of their clocks shortens or lengthens the
/// grace.
fn is_recent(replaced: Timestamp, now: Timestamp) -> bool {
    now.duration_since(replaced).as_millis() <= GRACE.as_millis().cast_signed()
}

/// Random bytes that only the store and the workers see.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt([u8; 32]);

/// The SHA-256 of random bytes, which need no salt and no stretching.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    fn of(bytes: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
        Self(hash)
    }
}

/// Conversions for bytes that are stored as they are and hidden from `Debug`.
macro_rules! stored_bytes {
    ($name:ident) => {
        impl $name {
            /// Reads stored bytes; `None` if their number is wrong.
            pub fn stored(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}

stored_bytes!(Salt);
stored_bytes!(TokenHash);

#[cfg(test)]
mod tests;
