//! The name of a bucket: `namespace:{policy:key}`, built on the stack.
//!
//! Redis Cluster assigns a bucket to a slot by the text in braces. Policy names have no `:`, and keys
//! longer than [`LITERAL`] bytes are hashed, so that no two buckets share a name.

use std::ops::Deref;

use aws_lc_rs::digest;

/// Bytes of the longest key that is used as it is.
const LITERAL: usize = 64;
const NAMESPACE: usize = 64;
const POLICY: usize = 64;
const HASHED: usize = 1 + 2 * digest::SHA256_OUTPUT_LEN;

pub(super) struct BucketKey {
    bytes: [u8; NAMESPACE + POLICY + HASHED + 4],
    len: usize,
}

impl BucketKey {
    pub(super) fn new(namespace: &str, policy: &str, key: &[u8]) -> Self {
        let mut name = Self {
            bytes: [0; _],
            len: 0,
        };
        name.push(&namespace.as_bytes()[..namespace.len().min(NAMESPACE)]);
        name.push(b":{");
        name.push(&policy.as_bytes()[..policy.len().min(POLICY)]);
        name.push(b":");
        if key.len() <= LITERAL {
            name.push(key);
        } else {
            // One byte longer than any literal key, so it cannot equal one.
            name.push(b"#");
            for byte in digest::digest(&digest::SHA256, key).as_ref() {
                let hex = b"0123456789abcdef";
                name.push(&[hex[usize::from(byte >> 4)], hex[usize::from(byte & 15)]]);
            }
        }
        name.push(b"}");
        name
    }

    fn push(&mut self, part: &[u8]) {
        self.bytes[self.len..self.len + part.len()].copy_from_slice(part);
        self.len += part.len();
    }
}

impl Deref for BucketKey {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
