//! Tokens that are refused.

use contract::problem::Kind;
use serde_json::{Value, json};

use super::kit::*;
use crate::auth::{AuthError, Reason};
use crate::config::Algorithm;
use crate::request::refusal::Refusal;

#[tokio::test]
async fn bad_tokens_are_refused_for_their_own_reason() {
    let signer = Signer::ed25519("k1");
    let verifier = verifier(&Jwks::serving(&[&signer]), &[Algorithm::EdDsa]);
    let header = signer.header().to_string();
    let good = claims().to_string();
    let with_header = |header: Value| signer.bearer(&header.to_string(), &good);
    let with_claim = |name: &str, value: Value| signer.token(&claims_with(name, value));
    let unsigned = |header: &str| format!("Bearer {}.{}.", b64(header), b64(&good)).into_bytes();
    let mut broken = signer.token(&claims());
    let end = broken.len() - 4;
    broken[end] = if broken[end] == b'A' { b'B' } else { b'A' };
    let token = String::from_utf8(signer.token(&claims())).unwrap();
    // A classic attack: HMAC with the published key as its secret.
    let x = signer.jwk["x"].as_str().unwrap();
    let confused = Signer::hmac("k1", x.as_bytes()).token(&claims());
    let raw = |claims: &str| signer.bearer(&header, claims);

    let table: Vec<(&str, Vec<u8>, AuthError)> = vec![
        ("nothing", b"".into(), AuthError::Missing),
        (
            "another scheme",
            b"Basic dXNlcjpwYXNz".into(),
            AuthError::Missing,
        ),
        ("no space", b"Bearertoken".into(), AuthError::Missing),
        ("no token", b"Bearer".into(), Reason::Malformed.into()),
        ("no dots", b"Bearer abc".into(), Reason::Malformed.into()),
        (
            "one dot",
            b"Bearer e30.e30".into(),
            Reason::Malformed.into(),
        ),
        (
            "three dots",
            format!("{token}.e30").into(),
            Reason::Malformed.into(),
        ),
        (
            "a leading dot",
            format!("Bearer .{}", &token[7..]).into(),
            Reason::Malformed.into(),
        ),
        (
            "not base64url",
            b"Bearer e+0.e30.e30".into(),
            Reason::Malformed.into(),
        ),
        (
            "padded base64",
            b"Bearer e30=.e30=.e30=".into(),
            Reason::Malformed.into(),
        ),
        (
            "not UTF-8",
            b"Bearer \xff.\xff.\xff".into(),
            Reason::Malformed.into(),
        ),
        ("not JSON", raw("{"), Reason::Malformed.into()),
        ("an array", raw("[]"), Reason::Malformed.into()),
        (
            "a member twice",
            raw(&good.replacen('{', "{\"sub\":\"admin\",", 1)),
            Reason::Malformed.into(),
        ),
        (
            "longer than 8 KiB",
            with_claim("pad", json!("x".repeat(8192))),
            Reason::TooLong.into(),
        ),
        (
            "alg none",
            unsigned(r#"{"alg":"none","typ":"JWT","kid":"k1"}"#),
            Reason::Algorithm.into(),
        ),
        (
            "alg none in capitals",
            unsigned(r#"{"alg":"NONE","typ":"JWT","kid":"k1"}"#),
            Reason::Algorithm.into(),
        ),
        (
            "alg missing",
            with_header(json!({"typ": "JWT", "kid": "k1"})),
            Reason::Malformed.into(),
        ),
        (
            "HS256 with the public key",
            confused,
            Reason::Algorithm.into(),
        ),
        (
            "alg that the key is not for",
            with_header(json!({"alg": "ES256", "typ": "JWT", "kid": "k1"})),
            Reason::Algorithm.into(),
        ),
        (
            "crit",
            with_header(json!({"alg": "EdDSA", "typ": "JWT", "kid": "k1", "crit": ["exp"]})),
            Reason::Critical.into(),
        ),
        (
            "crit null",
            with_header(json!({"alg": "EdDSA", "typ": "JWT", "kid": "k1", "crit": null})),
            Reason::Critical.into(),
        ),
        (
            "typ of something else",
            with_header(json!({"alg": "EdDSA", "typ": "secevent+jwt", "kid": "k1"})),
            Reason::Type.into(),
        ),
        (
            "typ missing",
            with_header(json!({"alg": "EdDSA", "kid": "k1"})),
            Reason::Type.into(),
        ),
        (
            "kid missing",
            with_header(json!({"alg": "EdDSA", "typ": "JWT"})),
            Reason::Key.into(),
        ),
        ("wrong signature", broken, Reason::Signature.into()),
        (
            "empty signature",
            unsigned(&header),
            Reason::Signature.into(),
        ),
        (
            "iss missing",
            with_claim("iss", Value::Null),
            Reason::Issuer.into(),
        ),
        (
            "iss of another",
            with_claim("iss", json!("evil")),
            Reason::Issuer.into(),
        ),
        (
            "iss as array",
            with_claim("iss", json!(["sluice"])),
            Reason::Malformed.into(),
        ),
        (
            "aud missing",
            with_claim("aud", Value::Null),
            Reason::Audience.into(),
        ),
        (
            "aud of another",
            with_claim("aud", json!("other-api")),
            Reason::Audience.into(),
        ),
        (
            "aud list of others",
            with_claim("aud", json!(["a", "b"])),
            Reason::Audience.into(),
        ),
        (
            "exp missing",
            with_claim("exp", Value::Null),
            Reason::Expiry.into(),
        ),
        (
            "exp null",
            raw(&good.replace(&(NOW + 600).to_string(), "null")),
            Reason::Malformed.into(),
        ),
        (
            "exp as text",
            with_claim("exp", json!((NOW + 600).to_string())),
            Reason::Malformed.into(),
        ),
        (
            "expired",
            with_claim("exp", json!(NOW - 5)),
            AuthError::Expired,
        ),
        (
            "nbf as text",
            with_claim("nbf", json!("0")),
            Reason::Malformed.into(),
        ),
        (
            "nbf in the future",
            with_claim("nbf", json!(NOW + 6)),
            Reason::NotYetValid.into(),
        ),
        (
            "iat as text",
            with_claim("iat", json!("0")),
            Reason::Malformed.into(),
        ),
        (
            "sub missing",
            with_claim("sub", Value::Null),
            Reason::Subject.into(),
        ),
        (
            "sub empty",
            with_claim("sub", json!("")),
            Reason::Subject.into(),
        ),
        (
            "sub with a line break",
            with_claim("sub", json!("a\r\nx-user-id: b")),
            Reason::Subject.into(),
        ),
        (
            "sub not ASCII",
            with_claim("sub", json!("käthe")),
            Reason::Subject.into(),
        ),
        (
            "sub too long",
            with_claim("sub", json!("x".repeat(129))),
            Reason::Subject.into(),
        ),
        (
            "sub as number",
            with_claim("sub", json!(7)),
            Reason::Malformed.into(),
        ),
        (
            "sid missing",
            with_claim("sid", Value::Null),
            Reason::Session.into(),
        ),
        (
            "sid with a space",
            with_claim("sid", json!("a b")),
            Reason::Session.into(),
        ),
    ];
    for (what, authorization, refusal) in table {
        let outcome = verify(&verifier, &authorization).await;
        assert_eq!(outcome.unwrap_err(), refusal, "{what}");
        let kind = Refusal::from(refusal).kind();
        assert_eq!(kind, Kind::Unauthenticated, "{what}");
    }
    assert_eq!(verifier.cache.len(), 0, "a refused token is kept");
}
