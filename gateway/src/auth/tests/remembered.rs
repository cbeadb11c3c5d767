//! Tokens that were verified before, and addresses that send forged ones.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use contract::problem::Kind;
use serde_json::json;

use super::kit::*;
use crate::auth::cache::TokenCache;
use crate::auth::{AuthError, FetchJwks, Identity, Reason, RevocationCheck, Verifier};
use crate::config::Algorithm;
use crate::request::refusal::Refusal;

#[tokio::test]
async fn a_remembered_token_still_expires() {
    let signer = Signer::ed25519("k1");
    let verifier = verifier(&Jwks::serving(&[&signer]), &[Algorithm::EdDsa]);
    let token = signer.token(&claims());
    assert!(verifier.cached(&token, NOW).is_none(), "not known yet");
    let first = verify(&verifier, &token).await.unwrap();

    let again = verifier.cached(&token, NOW + 604).unwrap().unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    assert_eq!(
        verifier.cached(&token, NOW + 605).unwrap().unwrap_err(),
        AuthError::Expired
    );
    let late = verifier.verify(&token, CLIENT, NOW + 605).await;
    assert_eq!(late.unwrap_err(), AuthError::Expired);
}

struct EndSession(AtomicBool);

impl RevocationCheck for EndSession {
    fn check(&self, identity: &Identity) -> Result<(), AuthError> {
        let ended = identity.session_id_str() == Some("session-1") && self.0.load(SeqCst);
        if ended {
            Err(AuthError::Revoked)
        } else {
            Ok(())
        }
    }
}

#[tokio::test]
async fn a_revoked_session_is_refused_on_every_path() {
    let signer = Signer::ed25519("k1");
    let revoked = Arc::new(EndSession(AtomicBool::new(false)));
    let auth = auth(vec![issuer(url(), &[Algorithm::EdDsa])]);
    let jwks: Arc<dyn FetchJwks> = Jwks::serving(&[&signer]);
    let verifier = Verifier::with_revocation_check(&auth, jwks, Arc::clone(&revoked) as _).unwrap();
    let token = signer.token(&claims());
    assert!(verify(&verifier, &token).await.is_ok());

    revoked.0.store(true, SeqCst);

    assert_eq!(
        verify(&verifier, &token).await.unwrap_err(),
        AuthError::Revoked
    );
    let fresh = signer.token(&claims_with("jti", json!("token-2")));
    assert_eq!(
        verify(&verifier, &fresh).await.unwrap_err(),
        AuthError::Revoked
    );
    let other = signer.token(&claims_with("sid", json!("session-2")));
    assert!(verify(&verifier, &other).await.is_ok());
}

#[tokio::test]
async fn the_cache_stays_within_its_bytes() {
    let signer = Signer::ed25519("k1");
    let verifier = verifier(&Jwks::serving(&[&signer]), &[Algorithm::EdDsa]);
    let identity = verify(&verifier, &signer.token(&claims())).await.unwrap();

    let cache = TokenCache::with_capacity(1 << 20);
    for number in 0..20_000 {
        cache.insert(format!("{number:0>400}").as_bytes(), Arc::clone(&identity));
    }
    assert!(cache.bytes() <= 1 << 20, "{} bytes", cache.bytes());
    assert!(cache.len() > 500, "{} entries", cache.len());
}

#[tokio::test]
async fn forged_tokens_from_one_address_are_soon_not_verified_any_more() {
    let (signer, forger) = (Signer::ed25519("k1"), Signer::ed25519("k1"));
    let verifier = verifier(&Jwks::serving(&[&signer]), &[Algorithm::EdDsa]);
    let known = signer.token(&claims());
    assert!(verify(&verifier, &known).await.is_ok());

    // The limit is 100 per second. A second may end in between, so at most 200 are verified.
    let forged = forger.token(&claims());
    let mut refused = None;
    for _ in 0..=200 {
        match verify(&verifier, &forged).await {
            Err(AuthError::TooManyFailures) => {
                refused = Some(AuthError::TooManyFailures);
                break;
            }
            other => assert_eq!(other.unwrap_err(), Reason::Signature.into()),
        }
    }
    let refused = refused.expect("garbage is verified without bound");
    assert_eq!(Refusal::from(refused).kind(), Kind::RateLimited);

    // Neither known tokens nor other addresses are affected.
    assert!(verify(&verifier, &known).await.is_ok());
    let elsewhere: IpAddr = "198.51.100.7".parse().unwrap();
    let fresh = signer.token(&claims_with("jti", json!("token-2")));
    assert!(verifier.verify(&fresh, elsewhere, NOW).await.is_ok());
}

#[test]
fn challenges_say_no_more_than_rfc_6750_asks() {
    assert_eq!(AuthError::Missing.www_authenticate().unwrap(), "Bearer");
    assert_eq!(
        AuthError::Expired.www_authenticate().unwrap(),
        "Bearer error=\"invalid_token\", error_description=\"the token has expired\""
    );
    assert_eq!(
        AuthError::from(Reason::Key).www_authenticate().unwrap(),
        "Bearer error=\"invalid_token\", error_description=\"the token's key is not known\""
    );
    for not_the_tokens_fault in [AuthError::KeysUnavailable, AuthError::TooManyFailures] {
        assert_eq!(not_the_tokens_fault.www_authenticate(), None);
        assert_eq!(not_the_tokens_fault.retry_after(), Some(1));
    }
}
