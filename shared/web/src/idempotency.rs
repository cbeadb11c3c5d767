//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07): a client that does not know the outcome of
//! its POST sends it again, and it happens once.
//!
//! A key belongs to one user and one path. The store keeps it in one write with what the request created, so
//! neither exists without the other.

use contract::problem::{Kind, Problem};
use http::{HeaderName, HeaderValue, header};
use serde_json::Value;
use stores::idempotency::{Digest, Idempotency};

use super::json::{self, Object};
use super::reply::Reply;
use super::request::{MAX_JSON_BYTES, Request, read};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Marks an answer that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const MAX_KEY_BYTES: usize = 255;

impl<W> Request<W> {
    /// Reads the body as one JSON object, and the client's `Idempotency-Key`. 400 if the key is there twice, is
    /// empty, is longer than 255 bytes or is not visible ASCII. The quotes that the draft asks for are optional
    /// and not part of the key.
    pub async fn idempotent_object(self) -> Result<(W, Object, Option<Idempotency>), Problem> {
        self.require_json()?;
        let key = self.idempotency_key()?;
        let body = read(self.body, MAX_JSON_BYTES).await?;
        let value = json::parse(&body)?;
        let body = Digest::of_json(&value);
        let idempotency = key.map(|key| Idempotency { key, body });
        Ok((self.who, Object::new(value)?, idempotency))
    }

    /// The key of a request without a body.
    pub fn idempotency(&self) -> Result<Option<Idempotency>, Problem> {
        let body = Digest::of_json(&Value::Null);
        let key = self.idempotency_key()?;
        Ok(key.map(|key| Idempotency { key, body }))
    }

    /// The client's key, for a body that is read by other means than [`Self::idempotent_object`].
    pub fn idempotency_key(&self) -> Result<Option<Digest>, Problem> {
        let mut values = self.head.headers.get_all(&KEY).iter();
        let key = match (values.next(), values.next()) {
            (None, _) => return Ok(None),
            (Some(key), None) => parse_key(key),
            (Some(_), Some(_)) => None,
        };
        let key = key.ok_or_else(|| {
            Problem::new(
                Kind::MalformedRequest,
                format!("`Idempotency-Key` must be there once, with 1 to {MAX_KEY_BYTES} visible ASCII characters, such as a UUID."),
            )
        })?;
        let path = self.path().trim_end_matches('/');
        // A path cannot hold a line break.
        let scoped = format!("{path}\n{key}");
        Ok(Some(Digest::of(scoped.as_bytes())))
    }
}

fn parse_key(value: &HeaderValue) -> Option<&str> {
    let text = value.to_str().ok()?;
    let text = match text.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"')?,
        None => text,
    };
    let fits = (1..=MAX_KEY_BYTES).contains(&text.len());
    (fits && text.bytes().all(|b| b.is_ascii_graphic())).then_some(text)
}

impl Reply {
    /// Marks the answer as one that was given before.
    #[must_use]
    pub fn replayed(self) -> Self {
        self.header(REPLAYED, HeaderValue::from_static("true"))
    }
}

/// 422: the key was used for another body.
pub fn mismatch() -> Problem {
    Problem::new(
        Kind::IdempotencyMismatch,
        "This `Idempotency-Key` was used with another body. Send a new key with a new request.",
    )
}

/// 409: the key's first request is still running.
pub fn in_flight() -> Problem {
    Problem::new(
        Kind::Conflict,
        "The first request with this `Idempotency-Key` has not ended. Send it again in a moment.",
    )
    .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_document_spelt_otherwise_is_the_same_request() {
        let digest = |text: &str| Digest::of_json(&json::parse(text.as_bytes()).unwrap());
        let one = digest(r#"{"a":1,"b":{"c":[1,2],"d":"\u00e9"}}"#);
        assert_eq!(
            one,
            digest("{ \"b\": {\"d\":\"é\", \"c\":[1,2]}, \"a\": 1 }")
        );
        assert_ne!(one, digest(r#"{"a":1,"b":{"c":[2,1],"d":"\u00e9"}}"#));
    }

    #[test]
    fn a_key_is_visible_ascii_with_or_without_the_quotes_of_a_structured_field() {
        let parse = |text: &str| {
            HeaderValue::from_bytes(text.as_bytes())
                .map(|v| parse_key(&v).map(str::to_owned))
                .unwrap()
        };
        assert_eq!(parse("8e03978e-40d5").as_deref(), Some("8e03978e-40d5"));
        assert_eq!(parse("\"8e03978e-40d5\""), parse("8e03978e-40d5"));
        let longest = "k".repeat(MAX_KEY_BYTES);
        assert_eq!(parse(&longest).as_deref(), Some(longest.as_str()));
        for bad in [
            "",
            "\"",
            "\"\"",
            "\"a",
            "a b",
            "ä",
            &"k".repeat(MAX_KEY_BYTES + 1),
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
