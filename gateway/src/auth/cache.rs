//! Caches the identities of tokens that were verified recently.
//!
//! The cache is bounded in bytes and keyed by the whole token: the hash finds an entry, and the full
//! text is compared. Refused tokens are never cached. The caller still checks a cached identity for
//! expiry and revocation. When a key leaves its issuer's set, the tokens it signed are dropped.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::identity::Identity;

/// Room for about 20,000 tokens of 400 bytes.
const MAX_BYTES: u64 = 16 << 20;
/// Bytes of an identity and of the cache's own bookkeeping.
const ENTRY_BYTES: usize = 400;

pub(super) struct TokenCache(Cache<Box<[u8]>, Arc<Identity>, Weight>);

#[derive(Clone)]
struct Weight;

impl Weighter<Box<[u8]>, Arc<Identity>> for Weight {
    fn weight(&self, token: &Box<[u8]>, _: &Arc<Identity>) -> u64 {
        (token.len() + ENTRY_BYTES) as u64
    }
}

impl Default for TokenCache {
    fn default() -> Self {
        Self::with_capacity(MAX_BYTES)
    }
}

impl TokenCache {
    pub(super) fn with_capacity(bytes: u64) -> Self {
        let entries = usize::try_from(bytes).unwrap_or(usize::MAX) / (2 * ENTRY_BYTES);
        Self(Cache::with_weighter(entries.max(1), bytes, Weight))
    }

    pub(super) fn get(&self, token: &[u8]) -> Option<Arc<Identity>> {
        let identity = self.0.get(token)?;
        if identity.key_is_retired() {
            self.0.remove(token);
            return None;
        }
        Some(identity)
    }

    pub(super) fn insert(&self, token: &[u8], identity: Arc<Identity>) {
        self.0.insert(token.into(), identity);
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.0.weight()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
