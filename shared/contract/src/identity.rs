//! The signed identity: what the gateway asserts about a request, and how a worker checks it.
//!
//! The gateway sets the headers of this family and signs them with HMAC-SHA256 (RFC 2104) over the
//! method, the target, the time and every header of the family, present or absent. A worker trusts
//! none of them without that signature. Bodies are not covered: the network between gateway and
//! workers must be private, and a captured request can be replayed for [`WINDOW`].

use std::time::Duration;

use aws_lc_rs::hmac;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::id::{SessionId, UserId};

pub const USER_ID: HeaderName = HeaderName::from_static("x-user-id");
pub const SESSION_ID: HeaderName = HeaderName::from_static("x-session-id");
/// When the access token ends, in Unix seconds.
pub const TOKEN_EXPIRES: HeaderName = HeaderName::from_static("x-token-expires");
/// The client's address as the gateway determined it.
pub const CLIENT_ADDRESS: HeaderName = HeaderName::from_static("x-client-address");
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// When the gateway signed, in Unix milliseconds.
pub const GATEWAY_TIME: HeaderName = HeaderName::from_static("x-gateway-time");
/// `KID:HEX`
pub const GATEWAY_SIGNATURE: HeaderName = HeaderName::from_static("x-gateway-signature");
/// Token claims mapped by configuration are headers with this prefix.
pub const CLAIM_PREFIX: &str = "x-claim-";

/// How far the time of the signature may be from the worker's clock, in either direction.
pub const WINDOW: Duration = Duration::from_secs(30);

/// The headers that the signature covers, in the order in which they are signed.
const SIGNED: [HeaderName; 9] = [
    USER_ID,
    SESSION_ID,
    TOKEN_EXPIRES,
    CLIENT_ADDRESS,
    REQUEST_ID,
    FORWARDED_FOR,
    FORWARDED_PROTO,
    FORWARDED_HOST,
    GATEWAY_TIME,
];

/// Why a worker does not trust a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("the request carries no gateway signature")]
    Missing,
    #[error("a header of the identity family is there more than once")]
    Duplicate,
    #[error("the signature was made by a key this worker does not know")]
    UnknownKey,
    #[error("the signature's time is outside the window")]
    OutsideWindow,
    #[error("the signature does not match the request")]
    Mismatch,
    #[error("the signed identity is not well formed")]
    Malformed,
}

/// The user on whose behalf the gateway signed a request. Only [`SigningKeys::verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub user_id: UserId,
    pub session_id: Option<SessionId>,
    /// Unix seconds.
    pub token_expires: Option<i64>,
}

/// The keys that gateways and workers share, newest first. The first one signs and all of them verify, so keys
/// rotate without a refused request.
#[derive(Clone)]
pub struct SigningKeys(Vec<(String, hmac::Key)>);

impl std::fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kids = self.0.iter().map(|(kid, _)| kid);
        f.debug_list().entries(kids).finish()
    }
}

impl SigningKeys {
    /// Parses `kid:hex,kid:hex`, newest first; each key has at least 32 bytes.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::new(parse_keys(text)?)
    }

    /// Takes parsed keys, newest first; each has at least 32 bytes.
    pub fn new(keys: Vec<(String, Vec<u8>)>) -> Result<Self, String> {
        if keys.is_empty() {
            return Err("there is no key".to_owned());
        }
        if let Some((kid, _)) = keys.iter().find(|(_, bytes)| bytes.len() < 32) {
            return Err(format!(
                "key `{kid}` is shorter than 32 bytes; make one with `openssl rand -hex 32`"
            ));
        }
        let keys = keys
            .into_iter()
            .map(|(kid, bytes)| (kid, hmac::Key::new(hmac::HMAC_SHA256, &bytes)));
        Ok(Self(keys.collect()))
    }

    /// The signature over the identity headers as they are now. Call it last: none of them may change
    /// afterwards.
    pub fn sign(&self, method: &str, target: &str, headers: &HeaderMap) -> HeaderValue {
        // Invariant: `new` never keeps an empty list.
        let (kid, key) = &self.0[0];
        let tag = hmac::sign(key, &message(method, target, headers));
        let text = format!("{kid}:{}", hex::encode(tag));
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
    }

    /// Checks the signature in constant time and reads the identity. `Ok(None)` is a signed request
    /// without a user (a public path).
    pub fn verify(
        &self,
        method: &str,
        target: &str,
        headers: &HeaderMap,
        now_ms: i64,
    ) -> Result<Option<Caller>, SignatureError> {
        let signature =
            at_most_once(headers, &GATEWAY_SIGNATURE)?.ok_or(SignatureError::Missing)?;
        for name in &SIGNED {
            at_most_once(headers, name)?;
        }
        let (kid, tag) = signature
            .to_str()
            .ok()
            .and_then(|text| text.split_once(':'))
            .ok_or(SignatureError::Malformed)?;
        let tag = hex::decode(tag).map_err(|_| SignatureError::Malformed)?;
        let (_, key) = self
            .0
            .iter()
            .find(|(known, _)| known == kid)
            .ok_or(SignatureError::UnknownKey)?;
        hmac::verify(key, &message(method, target, headers), &tag)
            .map_err(|_| SignatureError::Mismatch)?;

        let signed_ms: i64 = number(headers, &GATEWAY_TIME)?.ok_or(SignatureError::Malformed)?;
        if now_ms.abs_diff(signed_ms) > WINDOW.as_millis() as u64 {
            return Err(SignatureError::OutsideWindow);
        }
        let Some(user_id) = text(headers, &USER_ID)? else {
            return Ok(None);
        };
        Ok(Some(Caller {
            user_id: UserId::parse(user_id).ok_or(SignatureError::Malformed)?,
            session_id: text(headers, &SESSION_ID)?.and_then(SessionId::parse),
            token_expires: number(headers, &TOKEN_EXPIRES)?,
        }))
    }
}

/// Parses `kid:hex,kid:hex` into key ids and bytes. Errors never repeat the secret.
pub fn parse_keys(text: &str) -> Result<Vec<(String, Vec<u8>)>, String> {
    let keys = text
        .split(',')
        .map(str::trim)
        .enumerate()
        .map(|(n, entry)| {
            let wrong = || format!("entry {} is not `kid:hex`", n + 1);
            let (kid, key) = entry.split_once(':').ok_or_else(wrong)?;
            let named = !kid.is_empty() && kid.bytes().all(|b| b.is_ascii_graphic());
            let bytes = hex::decode(key).map_err(|_| wrong())?;
            if named {
                Ok((kid.to_owned(), bytes))
            } else {
                Err(wrong())
            }
        })
        .collect::<Result<Vec<_>, String>>()?;
    let mut kids: Vec<_> = keys.iter().map(|(kid, _)| kid).collect();
    kids.sort();
    if kids.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("two keys have the same id".to_owned());
    }
    Ok(keys)
}

/// The signed message: one line per part, absent headers as empty lines, mapped claims sorted by name.
/// No part can hold a line break, so two requests never share a message.
fn message(method: &str, target: &str, headers: &HeaderMap) -> Vec<u8> {
    let mut message = Vec::with_capacity(512);
    let mut line = |parts: &[&[u8]]| {
        parts
            .iter()
            .for_each(|part| message.extend_from_slice(part));
        message.push(b'\n');
    };
    line(&[b"sluice-1"]);
    line(&[method.as_bytes()]);
    line(&[target.as_bytes()]);
    for name in &SIGNED {
        match headers.get(name) {
            Some(value) => line(&[b"=", value.as_bytes()]),
            None => line(&[]),
        }
    }
    let mut claims: Vec<_> = headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with(CLAIM_PREFIX))
        .collect();
    claims.sort_by_key(|(name, _)| name.as_str());
    for (name, value) in claims {
        line(&[name.as_str().as_bytes(), b"=", value.as_bytes()]);
    }
    message
}

/// The value of a header that may occur at most once.
fn at_most_once<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, SignatureError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(SignatureError::Duplicate),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, SignatureError> {
    headers
        .get(name)
        .map(|value| value.to_str().map_err(|_| SignatureError::Malformed))
        .transpose()
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Result<Option<i64>, SignatureError> {
    text(headers, name)?
        .map(|digits| digits.parse().map_err(|_| SignatureError::Malformed))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn keys(text: &str) -> SigningKeys {
        SigningKeys::parse(text).unwrap()
    }

    fn new_key() -> SigningKeys {
        keys(&format!("k2:{},k1:{}", "22".repeat(32), "11".repeat(32)))
    }

    fn signed(keys: &SigningKeys) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(USER_ID, HeaderValue::from_static("alice"));
        headers.insert(TOKEN_EXPIRES, HeaderValue::from_static("1800000600"));
        headers.insert(GATEWAY_TIME, HeaderValue::from(NOW));
        headers.insert("x-claim-plan", HeaderValue::from_static("gold"));
        let signature = keys.sign("GET", "/api/tasks?limit=1", &headers);
        headers.insert(GATEWAY_SIGNATURE, signature);
        headers
    }

    fn verify(keys: &SigningKeys, headers: &HeaderMap) -> Result<Option<Caller>, SignatureError> {
        keys.verify("GET", "/api/tasks?limit=1", headers, NOW)
    }

    #[test]
    fn what_the_gateway_signs_the_worker_believes() {
        let caller = verify(&new_key(), &signed(&new_key())).unwrap().unwrap();
        assert_eq!(caller.user_id.as_str(), "alice");
        assert_eq!(caller.token_expires, Some(1_800_000_600));
    }

    #[test]
    fn a_worker_believes_the_older_key_while_keys_rotate() {
        let old = keys(&format!("k1:{}", "11".repeat(32)));
        assert!(verify(&new_key(), &signed(&old)).is_ok());
        assert_eq!(
            verify(&old, &signed(&new_key())),
            Err(SignatureError::UnknownKey)
        );
    }

    #[test]
    fn a_changed_request_is_not_believed() {
        let keys = new_key();
        let good = signed(&keys);
        let change = |name: &'static str, value: &'static str| {
            let mut headers = good.clone();
            headers.insert(name, HeaderValue::from_static(value));
            verify(&keys, &headers)
        };
        for (name, value) in [
            ("x-user-id", "bob"),
            ("x-session-id", "s"),
            ("x-claim-plan", "free"),
            ("x-claim-more", "1"),
            ("x-forwarded-for", "10.0.0.1"),
        ] {
            assert_eq!(change(name, value), Err(SignatureError::Mismatch), "{name}");
        }
        let mut stripped = good.clone();
        stripped.remove(USER_ID);
        assert_eq!(verify(&keys, &stripped), Err(SignatureError::Mismatch));
        assert_eq!(
            keys.verify("POST", "/api/tasks?limit=1", &good, NOW),
            Err(SignatureError::Mismatch)
        );
        assert_eq!(
            keys.verify("GET", "/api/tasks?limit=2", &good, NOW),
            Err(SignatureError::Mismatch)
        );
    }

    #[test]
    fn a_second_user_id_is_refused_even_when_the_first_is_signed() {
        let keys = new_key();
        let mut headers = signed(&keys);
        headers.append(USER_ID, HeaderValue::from_static("bob"));
        assert_eq!(verify(&keys, &headers), Err(SignatureError::Duplicate));
    }

    #[test]
    fn a_signature_lives_thirty_seconds() {
        let keys = new_key();
        let headers = signed(&keys);
        let at = |now| keys.verify("GET", "/api/tasks?limit=1", &headers, now);
        assert!(at(NOW + 30_000).is_ok());
        assert_eq!(at(NOW + 30_001), Err(SignatureError::OutsideWindow));
        assert_eq!(at(NOW - 30_001), Err(SignatureError::OutsideWindow));
    }

    #[test]
    fn an_unsigned_request_is_refused() {
        assert_eq!(
            verify(&new_key(), &HeaderMap::new()),
            Err(SignatureError::Missing)
        );
    }

    #[test]
    fn bad_key_lists_are_refused_without_repeating_them() {
        for text in ["", "k1", "k1:zz", "k1:00,k1:00", ":00", "k1:0011"] {
            let why = SigningKeys::parse(text).unwrap_err();
            assert!(!why.contains("0011"), "{why}");
        }
    }
}
