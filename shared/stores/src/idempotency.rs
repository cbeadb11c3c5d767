//! A client's `Idempotency-Key`, as stores keep it: in one write with what the request created.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::Value;

/// How long a key is remembered.
pub const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// A client's key for one request, and a digest of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// Digest of the path and the client's key.
    pub key: Digest,
    /// Digest of the body.
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

    /// The digest of a document's content: the order of members and white space do not matter.
    pub fn of_json(value: &Value) -> Self {
        // Objects are sorted by member: serde_json's `preserve_order` is off.
        Self::of(value.to_string().as_bytes())
    }

    /// The form in which stores keep it.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

/// Computes a digest piece by piece.
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

/// The outcome of a request with a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Once<New, Before> {
    /// It happened now.
    New(New),
    /// It happened before; this was the answer.
    Before(Before),
    /// The key was used for another body.
    Mismatch,
    /// The key's first request is still running.
    InFlight,
}
