//! Tokens that are accepted.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::kit::*;
use crate::auth::{AuthError, Reason, Verifier};
use crate::config::Algorithm;

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
