//! A client's `Idempotency-Key` as stores keep it: with what the request made, in one write.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::Value;

/// How long a key is remembered.
pub const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// A client's name for one request, and what the request says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// Of the path and the client's key.
    pub key: Digest,
    /// Of the body.
    pub body: Digest,
}

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Of what a document says: neither the order of members nor white space matters.
    pub fn of_json(value: &Value) -> Self {
        // Objects are sorted by member: serde_json's `preserve_order` is off.
        Self::of(value.to_string().as_bytes())
    }

    /// How a store keeps it.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

/// Makes the digest of something that comes in pieces.
pub struct Hasher(Context);

impl Default for Hasher {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl Hasher {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(self) -> Digest {
        let mut hash = [0; 32];
        hash.copy_from_slice(self.0.finish().as_ref());
        Digest(hash)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0[..4]))
    }
}

/// What became of a request with a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Once<New, Before> {
    /// It happened now.
    New(New),
    /// It had happened before: what it answered then.
    Before(Before),
    /// The key was used for another body.
    Mismatch,
    /// The key's first request has not ended.
    InFlight,
}
