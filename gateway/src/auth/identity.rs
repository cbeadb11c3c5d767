//! The caller of a request, after the token's signature was checked.

use std::fmt;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use serde_json::Value;

use super::claims::Token;
use super::error::Reason;
use super::keys::VerificationKey;

/// Bytes of the longest `sub`, `sid` or mapped claim. They become headers.
const MAX_VALUE: usize = 128;

/// A verified caller. Only the verifier creates it. Its values are ready to be sent to a worker.
pub struct Identity {
    user_id: HeaderValue,
    session_id: Option<HeaderValue>,
    expires_at: i64,
    expires: HeaderValue,
    claims: Box<[(HeaderName, HeaderValue)]>,
    /// The key that signed the token.
    key: Arc<VerificationKey>,
}

impl Identity {
    pub(super) fn new(
        token: &Token<'_>,
        claims_to_headers: &[(String, HeaderName)],
        key: Arc<VerificationKey>,
    ) -> Result<Self, Reason> {
        let claims = &token.claims;
        let session_id = match &claims.sid {
            Some(sid) => Some(visible(sid).ok_or(Reason::Session)?),
            None => None,
        };
        // In whole seconds, as everywhere. Rounded down, so that no token is valid for too long.
        let expires_at = claims.exp.ok_or(Reason::Expiry)?.floor() as i64;
        Ok(Self {
            user_id: claims
                .sub
                .as_deref()
                .and_then(visible)
                .ok_or(Reason::Subject)?,
            session_id,
            expires_at,
            expires: HeaderValue::from(expires_at),
            claims: mapped(&token.payload, claims_to_headers)?,
            key,
        })
    }

    /// The verified `sub`: 1 to 128 visible ASCII characters.
    pub fn user_id(&self) -> &HeaderValue {
        &self.user_id
    }

    pub fn user_id_str(&self) -> &str {
        // Invariant: the value is visible ASCII.
        self.user_id.to_str().unwrap_or_default()
    }

    /// The verified `sid`. Tokens of the platform's own issuer always have one.
    pub fn session_id(&self) -> Option<&HeaderValue> {
        self.session_id.as_ref()
    }

    /// The verified `sid` as text.
    pub fn session_id_str(&self) -> Option<&str> {
        // Invariant: the value is visible ASCII.
        self.session_id.as_ref().and_then(|sid| sid.to_str().ok())
    }

    /// Unix seconds.
    pub fn expires_at(&self) -> i64 {
        self.expires_at
    }

    /// The expiry as a header value.
    pub fn expires(&self) -> &HeaderValue {
        &self.expires
    }

    /// The claims that the configuration maps to headers, by header name.
    pub fn claims(&self) -> &[(HeaderName, HeaderValue)] {
        &self.claims
    }

    pub(super) fn key_is_retired(&self) -> bool {
        self.key.is_retired()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.user_id_str())
    }
}

/// The mapped claims. A claim is left out unless it is a string, a number or a boolean, short enough,
/// and visible ASCII.
fn mapped(
    payload: &[u8],
    claims_to_headers: &[(String, HeaderName)],
) -> Result<Box<[(HeaderName, HeaderValue)]>, Reason> {
    if claims_to_headers.is_empty() {
        return Ok(Box::default());
    }
    let all: serde_json::Map<String, Value> =
        serde_json::from_slice(payload).map_err(|_| Reason::Malformed)?;
    let carried = claims_to_headers.iter().filter_map(|(claim, header)| {
        let value = match all.get(claim)? {
            Value::String(text) => visible(text),
            Value::Number(number) => visible(&number.to_string()),
            Value::Bool(flag) => visible(&flag.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        };
        Some((header.clone(), value?))
    });
    Ok(carried.collect())
}

fn visible(text: &str) -> Option<HeaderValue> {
    let fits = (1..=MAX_VALUE).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    fits.then(|| HeaderValue::from_str(text).ok()).flatten()
}
