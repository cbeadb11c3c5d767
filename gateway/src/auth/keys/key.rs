//! One key of an issuer.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Acquire;

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::Jwk;

use crate::auth::claims::Token;
use crate::config::Algorithm;

/// A key that can verify tokens with one algorithm.
pub(in crate::auth) struct VerificationKey {
    /// `None` for a shared secret, which verifies tokens with any `kid`.
    pub(super) kid: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
    /// The key as published; `None` for a shared secret.
    pub(super) published: Option<Jwk>,
    pub(super) retired: AtomicBool,
}

/// One key, for `/status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// Empty for a shared secret.
    pub kid: String,
    pub alg: &'static str,
    pub issuer: String,
}

impl VerificationKey {
    /// Whether this key signed the token.
    pub(in crate::auth) fn signed(&self, token: &Token<'_>) -> bool {
        let algorithm = match self.algorithm {
            Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
            Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
            Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
            Algorithm::Hs256 => jsonwebtoken::Algorithm::HS256,
        };
        let signed = token.signed.as_bytes();
        jsonwebtoken::crypto::verify(token.signature, signed, &self.decoding, algorithm)
            .unwrap_or(false)
    }

    pub(in crate::auth) fn is_retired(&self) -> bool {
        self.retired.load(Acquire)
    }
}

pub(super) fn algorithm_name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::EdDsa => "EdDSA",
        Algorithm::Es256 => "ES256",
        Algorithm::Rs256 => "RS256",
        Algorithm::Hs256 => "HS256",
    }
}
