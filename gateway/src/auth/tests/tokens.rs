//! Which tokens are believed.

use std::sync::Arc;

use contract::problem::Kind;
use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::kit::*;
use crate::auth::{AuthError, Reason, Verifier};
use crate::config::Algorithm;
use crate::request::refusal::Refusal;

#[tokio::test]
async fn a_good_token_becomes_an_identity() {
    let signer = Signer::ed25519("k1");
    let verifier = verifier(&Jwks::serving(&[&signer]), &[Algorithm::EdDsa]);

    let identity = verify(&verifier, &signer.token(&claims())).await.unwrap();

    assert_eq!(identity.user_id(), "user-1");
    assert_eq!(identity.session_id().unwrap(), "session-1");
    assert_eq!(identity.expires_at(), NOW + 600);
    assert_eq!(identity.expires(), &HeaderValue::from(NOW + 600));
}

#[tokio::test]
async fn every_algorithm_verifies_with_its_own_key() {
    let signers = [
        Signer::ed25519("ed"),
        Signer::p256("ec"),
        Signer::rsa("rsa"),
    ];
    let jwks = Jwks::serving(&signers.each_ref());
    let allowed = [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256];
    let verifier = verifier(&jwks, &allowed);

    for signer in &signers {
        let identity = verify(&verifier, &signer.token(&claims())).await;
        assert!(identity.is_ok(), "{}: {identity:?}", signer.alg);
        // A token with the same kid but another algorithm is refused.
        let other = signers.iter().find(|o| o.alg != signer.alg).unwrap();
        let header = json!({"alg": other.alg, "typ": "JWT", "kid": signer.kid}).to_string();
        let confused = other.bearer(&header, &claims().to_string());
        assert_eq!(
            verify(&verifier, &confused).await.unwrap_err(),
            AuthError::Invalid(Reason::Algorithm)
        );
    }
    assert_eq!(jwks.fetches(), 1);
}

#[tokio::test]
async fn a_shared_secret_verifies_hs256_under_any_kid() {
    let secret_text = "0123456789abcdef0123456789abcdef";
    let auth = auth(vec![issuer(secret(secret_text), &[Algorithm::Hs256])]);
    let verifier = Verifier::new(&auth, Arc::new(Jwks::default())).unwrap();
    let signer = Signer::hmac("any", secret_text.as_bytes());

    assert!(verifier.is_ready());
    assert!(verify(&verifier, &signer.token(&claims())).await.is_ok());
    let without_kid = signer.bearer(r#"{"alg":"HS256","typ":"JWT"}"#, &claims().to_string());
    assert!(verify(&verifier, &without_kid).await.is_ok());
    let forger = Signer::hmac("any", b"another secret of thirty-two byte");
    assert_eq!(
        verify(&verifier, &forger.token(&claims()))
            .await
            .unwrap_err(),
        AuthError::Invalid(Reason::Signature)
    );
}

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
    // The classic: HMAC with the published key as the secret.
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

#[tokio::test]
async fn borderline_tokens_are_accepted() {
    let signer = Signer::ed25519("k1");
    let verifier = verifier(&Jwks::serving(&[&signer]), &[Algorithm::EdDsa]);
    let typed = |typ: &str| {
        let header = json!({"alg": "EdDSA", "typ": typ, "kid": "k1"}).to_string();
        signer.bearer(&header, &claims().to_string())
    };
    let lower_case = {
        let token = String::from_utf8(signer.token(&claims())).unwrap();
        token.replacen("Bearer ", "bearer   ", 1).into_bytes()
    };
    for (what, authorization) in [
        ("typ at+jwt", typed("at+jwt")),
        ("typ in capitals", typed("AT+JWT")),
        ("typ in lower case", typed("jwt")),
        ("scheme in lower case", lower_case),
        (
            "aud list",
            signer.token(&claims_with("aud", json!(["x", "sluice-api"]))),
        ),
        (
            "exp within the leeway",
            signer.token(&claims_with("exp", json!(NOW - 4))),
        ),
        (
            "exp with a fraction",
            signer.token(&claims_with("exp", json!(NOW as f64 + 0.5))),
        ),
        (
            "nbf within the leeway",
            signer.token(&claims_with("nbf", json!(NOW + 5))),
        ),
        (
            "nbf missing",
            signer.token(&claims_with("nbf", Value::Null)),
        ),
    ] {
        let outcome = verify(&verifier, &authorization).await;
        assert!(outcome.is_ok(), "{what}: {outcome:?}");
    }
}

#[tokio::test]
async fn only_the_platforms_own_issuer_needs_a_session_and_a_type() {
    let (ours, theirs) = (Signer::ed25519("k1"), Signer::ed25519("k1"));
    let own = issuer(
        secret("0123456789abcdef0123456789abcdef"),
        &[Algorithm::Hs256],
    );
    let mut other = issuer(url(), &[Algorithm::EdDsa]);
    other.issuer = "partner".into();
    let jwks = Jwks::serving(&[&theirs]);
    let verifier = Verifier::new(&auth(vec![own, other]), jwks).unwrap();
    let mut claims = claims_with("sid", Value::Null);
    claims["iss"] = json!("partner");
    let header = r#"{"alg":"EdDSA","kid":"k1"}"#;

    let token = theirs.bearer(header, &claims.to_string());
    let identity = verify(&verifier, &token).await.unwrap();
    assert_eq!(identity.session_id(), None);

    // The partner's key does not verify our issuer's tokens, nor our key theirs.
    let as_us = theirs.token(&super::kit::claims());
    assert_eq!(
        verify(&verifier, &as_us).await.unwrap_err(),
        Reason::Algorithm.into()
    );
    let as_them = ours.bearer(header, &claims.to_string());
    assert_eq!(
        verify(&verifier, &as_them).await.unwrap_err(),
        Reason::Signature.into()
    );
}

#[tokio::test]
async fn mapped_claims_become_headers_when_they_can() {
    let signer = Signer::ed25519("k1");
    let mut issuer = issuer(url(), &[Algorithm::EdDsa]);
    for (claim, header) in [
        ("role", "x-claim-role"),
        ("level", "x-claim-level"),
        ("list", "x-claim-list"),
        ("evil", "x-claim-evil"),
    ] {
        issuer
            .claims_to_headers
            .insert(claim.into(), HeaderName::from_static(header));
    }
    let jwks = Jwks::serving(&[&signer]);
    let verifier = Verifier::new(&auth(vec![issuer]), jwks).unwrap();
    let mut claims = claims();
    claims["role"] = json!("admin");
    claims["level"] = json!(3);
    claims["list"] = json!(["a"]);
    claims["evil"] = json!("a\r\nb");

    let identity = verify(&verifier, &signer.token(&claims)).await.unwrap();

    let mapped: Vec<(&str, &str)> = identity
        .claims()
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    assert_eq!(mapped, [("x-claim-level", "3"), ("x-claim-role", "admin")]);
}
