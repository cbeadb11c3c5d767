//! Reads a JWK set (RFC 7517).
//!
//! Skips keys that are not for signatures, have another algorithm, or have no `kid`, as the RFC asks.
//! Also skips shared secrets, which must not be published.

use std::sync::atomic::AtomicBool;

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::fetch::{KeySetError, MAX_BYTES};
use super::key::VerificationKey;
use crate::config::Algorithm;

const MAX_KEYS: usize = 64;

#[derive(Deserialize)]
struct JwkSet<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

pub(super) fn parse(
    bytes: &[u8],
    allowed: &[Algorithm],
) -> Result<Vec<VerificationKey>, KeySetError> {
    if bytes.len() > MAX_BYTES {
        return Err(KeySetError::TooLong);
    }
    let set: JwkSet<'_> = serde_json::from_slice(bytes).map_err(KeySetError::Malformed)?;
    if set.keys.len() > MAX_KEYS {
        return Err(KeySetError::TooMany);
    }
    let mut keys: Vec<VerificationKey> = Vec::with_capacity(set.keys.len());
    for raw in set.keys {
        let key = serde_json::from_str(raw.get()).ok().and_then(usable);
        // The first key with a `kid` wins, so that a `kid` names one key.
        if let Some(key) = key
            && allowed.contains(&key.algorithm)
            && !keys.iter().any(|known| known.kid == key.kid)
        {
            keys.push(key);
        }
    }
    if keys.is_empty() {
        return Err(KeySetError::NothingUsable);
    }
    Ok(keys)
}

fn usable(jwk: Jwk) -> Option<VerificationKey> {
    let (algorithm, published_as) = match &jwk.algorithm {
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDsa, KeyAlgorithm::EdDSA)
        }
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::Es256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::RSA(_) => (Algorithm::Rs256, KeyAlgorithm::RS256),
        _ => return None,
    };
    let common = &jwk.common;
    let for_signatures = common
        .public_key_use
        .as_ref()
        .is_none_or(|usage| *usage == PublicKeyUse::Signature);
    let may_verify = common
        .key_operations
        .as_ref()
        .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    let algorithm_fits = common.key_algorithm.is_none_or(|a| a == published_as);
    if !for_signatures || !may_verify || !algorithm_fits {
        return None;
    }
    Some(VerificationKey {
        kid: Some(common.key_id.clone()?),
        algorithm,
        decoding: DecodingKey::from_jwk(&jwk).ok()?,
        published: Some(jwk),
        retired: AtomicBool::new(false),
    })
}
