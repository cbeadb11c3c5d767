//! Refresh tokens: how one follows another, and how an old one is recognised.
//!
//! A token's successor is computed from the token and the session's salt. So whoever shows the same
//! token at the same moment, to whichever worker, is given the same successor; and no token has to be
//! kept: hashes and salt make none, and neither does an old token without the salt.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::{digest, hmac, rand};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;

/// How long a token may still be shown after its successor was given out: requests that were sent at
/// the same moment arrive in any order, and an answer can get lost.
pub const GRACE: Duration = Duration::from_secs(10);
/// Replacements within [`GRACE`] that are remembered. Whoever makes more shows an older token as if
/// its grace were over.
const MAX_REPLACED: usize = 128;

/// What a client shows to get new tokens: 128 random bits that stay for the session's life, so that
/// an old token is recognised as one, and 256 that change with each rotation. Told to the client
/// once; only hashes are kept.
#[derive(Clone)]
pub struct RefreshToken([u8; Self::BYTES]);

impl RefreshToken {
    const FAMILY_BYTES: usize = 16;
    const BYTES: usize = Self::FAMILY_BYTES + 32;

    /// Takes what a client shows; `None` where nobody was ever given such a token.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        bytes.try_into().ok().map(Self)
    }

    /// What the client is told.
    pub fn expose(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.0)
    }

    /// Finds the session, whichever of its tokens this is.
    pub fn family(&self) -> TokenHash {
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

/// What a session keeps of its refresh tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub family: TokenHash,
    /// The token that has no successor yet.
    pub current: TokenHash,
    /// None in sessions that were made before tokens could be refreshed.
    pub salt: Option<Salt>,
    /// When the tokens before `current` were replaced, the latest one last.
    pub replaced: Vec<Timestamp>,
}

/// What showing a token leads to.
#[derive(Clone)]
pub enum Shown {
    /// It is replaced, once `next` is kept.
    Current { next: Chain, token: RefreshToken },
    /// It was replaced a moment ago; this is the current one.
    Recent(RefreshToken),
    /// It was replaced long ago: one of two who know it stole it, and nobody can tell which.
    Replayed,
}

impl Chain {
    /// The chain of a new session and its first token. `None` when the system gives no random bytes.
    pub fn start() -> Option<(Self, RefreshToken)> {
        let (mut token, mut salt) = ([0; RefreshToken::BYTES], [0; 32]);
        rand::fill(&mut token).ok()?;
        rand::fill(&mut salt).ok()?;
        let token = RefreshToken(token);
        let chain = Self {
            family: token.family(),
            current: token.hash(),
            salt: Some(Salt(salt)),
            replaced: Vec::new(),
        };
        Some((chain, token))
    }

    /// Decides on a token of this family.
    pub fn show(&self, shown: &RefreshToken, now: Timestamp) -> Shown {
        let Some(salt) = &self.salt else {
            return Shown::Replayed;
        };
        let mut token = shown.clone();
        for age in 0..=self.replaced.len() {
            let next = token.successor(salt);
            if token.hash() == self.current {
                let replaced = self.replaced.len().checked_sub(age);
                return match replaced.and_then(|n| self.replaced.get(n)) {
                    None => Shown::Current {
                        next: self.replaced_by(&next, now),
                        token: next,
                    },
                    Some(at) if is_recent(*at, now) => Shown::Recent(token),
                    Some(_) => Shown::Replayed,
                };
            }
            token = next;
        }
        Shown::Replayed
    }

    fn replaced_by(&self, next: &RefreshToken, now: Timestamp) -> Self {
        let surplus = (self.replaced.len() + 1).saturating_sub(MAX_REPLACED);
        // Only ever from the front: the place of a time tells which token it belongs to.
        let kept = self.replaced.iter().skip(surplus);
        let kept = kept.skip_while(|at| !is_recent(**at, now)).copied();
        Self {
            current: next.hash(),
            replaced: kept.chain([now]).collect(),
            ..self.clone()
        }
    }
}

/// The two times may be two workers': their clocks' difference shortens or lengthens the grace.
fn is_recent(replaced: Timestamp, now: Timestamp) -> bool {
    now.duration_since(replaced).as_millis() <= GRACE.as_millis().cast_signed()
}

/// Random bytes that never leave the store.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt([u8; 32]);

/// The SHA-256 of random bytes: they need no salt and no stretching.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    fn of(bytes: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
        Self(hash)
    }
}

/// Both are kept as they are, and never written anywhere else.
macro_rules! kept {
    ($name:ident) => {
        impl $name {
            /// Takes what a store kept; `None` where it kept something else.
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

kept!(Salt);
kept!(TokenHash);

#[cfg(test)]
mod tests;
