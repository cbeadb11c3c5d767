//! Parses a token. Nothing in it is trusted yet.
//!
//! Reads the three parts once, strictly: unpadded base64url, JSON without duplicate members, and dates
//! that are numbers (a date in quotes is an error, not a missing date). [`super::keys::Issuer::check`]
//! checks the rules of RFC 8725 that need no key.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};

use super::error::Reason;

pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    /// `header.payload`: the text that was signed.
    pub(super) signed: &'a str,
    pub(super) signature: &'a str,
    pub(super) header: Header,
    pub(super) claims: Claims,
    /// The JSON of all claims, for those that the configuration maps to headers.
    pub(super) payload: Vec<u8>,
}

#[derive(Deserialize)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
    pub(super) typ: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

#[derive(Deserialize)]
pub(super) struct Claims {
    pub(super) iss: Option<String>,
    pub(super) aud: Option<Audience>,
    pub(super) sub: Option<String>,
    pub(super) sid: Option<String>,
    #[serde(default, deserialize_with = "number")]
    pub(super) exp: Option<f64>,
    #[serde(default, deserialize_with = "number")]
    pub(super) nbf: Option<f64>,
    #[serde(default, deserialize_with = "number")]
    #[expect(dead_code, reason = "must be a number, but decides nothing")]
    iat: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    pub(super) fn contains(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Several(several) => several.iter().any(|one| one == audience),
        }
    }
}

impl<'a> Token<'a> {
    pub(super) fn parse(token: &'a [u8]) -> Result<Self, Reason> {
        let text = std::str::from_utf8(token).map_err(|_| Reason::Malformed)?;
        let (signed, signature) = text.rsplit_once('.').ok_or(Reason::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Reason::Malformed)?;
        let header: Header = json(&decode(header)?)?;
        if header.crit {
            return Err(Reason::Critical);
        }
        let payload = decode(payload)?;
        Ok(Self {
            text,
            signed,
            signature,
            header,
            claims: json(&payload)?,
            payload,
        })
    }
}

/// Fails for a token of four parts, because base64url has no dot.
fn decode(part: &str) -> Result<Vec<u8>, Reason> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Reason::Malformed)
}

fn json<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Reason> {
    serde_json::from_slice(bytes).map_err(|_| Reason::Malformed)
}

/// A date that is present must be a number. `null` is not a number.
fn number<'de, D: Deserializer<'de>>(input: D) -> Result<Option<f64>, D::Error> {
    f64::deserialize(input).map(Some)
}

fn present<'de, D: Deserializer<'de>>(input: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(input).map(|_| true)
}
