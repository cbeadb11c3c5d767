//! How key sets are loaded, change and fail.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Uri;
use runtime::client::Client;
use serde_json::json;
use testkit::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::kit::*;
use crate::auth::{
    AuthError, AuthSetupError, FetchJwks, HttpJwks, KeyInfo, KeySetError, Reason, Verifier,
};
use crate::config::{Algorithm, KeySource};

const EDDSA: &[Algorithm] = &[Algorithm::EdDsa];

#[tokio::test]
async fn keys_are_loaded_in_the_background_as_soon_as_they_can_be() {
    let signer = Signer::ed25519("k1");
    let jwks = Arc::new(Jwks::default());
    let verifier = verifier(&jwks, EDDSA);
    let background = Arc::clone(&verifier);
    let _background = tokio::spawn(async move { background.run().await });

    eventually(Duration::from_secs(5), || async { jwks.fetches() >= 2 }).await;
    assert!(!verifier.is_ready());
    jwks.serve(&[&signer]);
    eventually(Duration::from_secs(5), || async { verifier.is_ready() }).await;

    let expected = KeyInfo {
        kid: "k1".into(),
        alg: "EdDSA",
        issuer: "sluice".into(),
    };
    assert_eq!(verifier.keys(), [expected]);
}

#[tokio::test]
async fn known_keys_work_while_the_key_set_is_down() {
    let (signer, stranger) = (Signer::ed25519("k1"), Signer::ed25519("k2"));
    let jwks = Jwks::serving(&[&signer]);
    let verifier = verifier(&jwks, EDDSA);
    assert!(verify(&verifier, &signer.token(&claims())).await.is_ok());

    jwks.go_away();

    let fresh = signer.token(&claims_with("jti", json!("token-2")));
    assert!(verify(&verifier, &fresh).await.is_ok());
    let unknown = stranger.token(&claims());
    assert_eq!(
        verify(&verifier, &unknown).await.unwrap_err(),
        AuthError::KeysUnavailable
    );
    let fetches = jwks.fetches();
    let again = stranger.token(&claims_with("jti", json!("token-2")));
    assert_eq!(
        verify(&verifier, &again).await.unwrap_err(),
        AuthError::KeysUnavailable
    );
    assert_eq!(jwks.fetches(), fetches, "a failure is not repeated at once");
}

#[tokio::test]
async fn an_unknown_kid_is_looked_up_once_and_then_refused() {
    let (signer, stranger) = (Signer::ed25519("k1"), Signer::ed25519("k2"));
    let jwks = Jwks::serving(&[&signer]);
    let verifier = verifier(&jwks, EDDSA);
    assert_eq!(
        verify(&verifier, &stranger.token(&claims()))
            .await
            .unwrap_err(),
        Reason::Key.into()
    );
    assert_eq!(jwks.fetches(), 1);
}

#[tokio::test]
async fn many_unknown_kids_at_once_are_one_fetch() {
    let (signer, newer) = (Signer::ed25519("k1"), Signer::ed25519("k2"));
    let jwks = Arc::new(Jwks::held());
    jwks.serve(&[&signer, &newer]);
    let verifier = verifier(&jwks, EDDSA);

    let mut asking = JoinSet::new();
    for number in 0..50 {
        let verifier = Arc::clone(&verifier);
        let token = newer.token(&claims_with("jti", json!(number)));
        asking.spawn(async move { verify(&verifier, &token).await.map(drop) });
    }
    eventually(Duration::from_secs(5), || async { jwks.fetches() == 1 }).await;
    jwks.release();

    for outcome in asking.join_all().await {
        assert_eq!(outcome, Ok(()));
    }
    assert_eq!(jwks.fetches(), 1);
}

#[tokio::test]
async fn unknown_kids_fetch_once_a_second_and_a_new_key_is_found_by_waiting() {
    let (signer, newer) = (Signer::ed25519("k1"), Signer::ed25519("k2"));
    let jwks = Jwks::serving(&[&signer]);
    let verifier = verifier(&jwks, EDDSA);
    let refused = verify(&verifier, &newer.token(&claims())).await;
    assert_eq!(refused.unwrap_err(), Reason::Key.into());
    let after_first_fetch = Instant::now();

    jwks.serve(&[&signer, &newer]);
    assert!(verify(&verifier, &newer.token(&claims())).await.is_ok());

    assert!(after_first_fetch.elapsed() > Duration::from_millis(900));
    assert_eq!(jwks.fetches(), 2);
}

#[tokio::test]
async fn a_hanging_key_set_costs_no_more_than_the_deadline() {
    let signer = Signer::ed25519("k1");
    let jwks = Arc::new(Jwks::held());
    let verifier = verifier(&jwks, EDDSA);
    let started = Instant::now();
    let outcome = verify(&verifier, &signer.token(&claims())).await;
    assert_eq!(outcome.unwrap_err(), AuthError::KeysUnavailable);
    assert!(started.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn hanging_up_does_not_start_another_fetch() {
    let signer = Signer::ed25519("k1");
    let jwks = Arc::new(Jwks::held());
    jwks.serve(&[&signer]);
    let verifier = verifier(&jwks, EDDSA);
    let token = signer.token(&claims());

    let asking = tokio::spawn({
        let (verifier, token) = (Arc::clone(&verifier), token.clone());
        async move { verify(&verifier, &token).await.map(drop) }
    });
    eventually(Duration::from_secs(5), || async { jwks.fetches() == 1 }).await;
    asking.abort();
    jwks.release();

    assert!(verify(&verifier, &token).await.is_ok());
    assert_eq!(jwks.fetches(), 1);
}

#[tokio::test]
async fn a_key_that_leaves_the_set_takes_its_tokens_along() {
    let (old, new) = (Signer::ed25519("k1"), Signer::ed25519("k2"));
    let jwks = Jwks::serving(&[&old]);
    let verifier = verifier(&jwks, EDDSA);
    let token = old.token(&claims());
    assert!(verify(&verifier, &token).await.is_ok());

    // Overlap: both keys are published, and the cached token stays cached.
    jwks.serve(&[&new, &old]);
    assert!(verify(&verifier, &new.token(&claims())).await.is_ok());
    assert!(verifier.cached(&token, NOW).is_some());

    jwks.serve(&[&new]);
    let stranger = Signer::ed25519("k3");
    let refetch = verify(&verifier, &stranger.token(&claims())).await;
    assert_eq!(refetch.unwrap_err(), Reason::Key.into());
    assert!(verifier.cached(&token, NOW).is_none());
    assert_eq!(
        verify(&verifier, &token).await.unwrap_err(),
        Reason::Key.into()
    );
}

#[tokio::test]
async fn unusable_sets_leave_the_known_keys_in_place() {
    let (signer, stranger) = (Signer::ed25519("k1"), Signer::ed25519("k2"));
    let too_many: Vec<_> = (0..65)
        .map(|n| json!({"kty": "OKP", "kid": n.to_string()}))
        .collect();
    for (what, document) in [
        ("no keys", json!({"keys": []})),
        ("no set", json!({"error": "internal"})),
        ("too many", json!({ "keys": too_many })),
        (
            "too long",
            json!({"keys": [], "pad": "x".repeat(65 * 1024)}),
        ),
    ] {
        let jwks = Jwks::serving(&[&signer]);
        let verifier = verifier(&jwks, EDDSA);
        assert!(verify(&verifier, &signer.token(&claims())).await.is_ok());
        jwks.serve_document(document);
        let outcome = verify(&verifier, &stranger.token(&claims())).await;
        assert_eq!(outcome.unwrap_err(), AuthError::KeysUnavailable, "{what}");
        let fresh = signer.token(&claims_with("jti", json!("token-2")));
        assert!(verify(&verifier, &fresh).await.is_ok(), "{what}");
    }
}

#[tokio::test]
async fn key_sets_are_fetched_over_http() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri: Uri = format!("http://{}/jwks.json", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let server = tokio::spawn(async move {
        for head in ["200 OK", "500 Internal Server Error"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            assert!(request[..length].starts_with(b"GET /jwks.json HTTP/1.1\r\n"));
            let answer =
                format!("HTTP/1.1 {head}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let fetch = HttpJwks::new(Client::new());
    assert_eq!(fetch.fetch(&uri).await.unwrap(), "{}");
    let refused = fetch.fetch(&uri).await.unwrap_err();
    assert!(matches!(refused, KeySetError::Refused(status) if status == 500));
    server.await.unwrap();
    let nobody = fetch.fetch(&uri).await.unwrap_err();
    assert!(matches!(nobody, KeySetError::Unreachable(_)));
}

#[test]
fn keys_that_are_not_for_us_are_skipped() {
    let signer = Signer::ed25519("k1");
    let changed = |name: &str, value: serde_json::Value| {
        let mut jwk = signer.jwk.clone();
        jwk[name] = value;
        jwk
    };
    let document = json!({"keys": [
        changed("use", json!("enc")),
        changed("alg", json!("ES256")),
        changed("key_ops", json!(["sign"])),
        changed("kid", json!(null)),
        changed("crv", json!("X25519")),
        Signer::hmac("shared", b"never from a published key set..").jwk,
        Signer::p256("not allowed").jwk,
        json!({"kty": "unheard of", "kid": "k1"}),
        json!("not even an object"),
        signer.jwk.clone(),
        Signer::ed25519("k1").jwk,
    ]});
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    std::fs::write(&path, document.to_string()).unwrap();

    let allowed = [Algorithm::EdDsa, Algorithm::Hs256];
    let auth = auth(vec![issuer(KeySource::JwksFile(path.clone()), &allowed)]);
    let fetch: Arc<dyn FetchJwks> = Arc::new(Jwks::default());
    let verifier = Verifier::new(&auth, Arc::clone(&fetch)).unwrap();

    assert!(verifier.is_ready());
    let names: Vec<String> = verifier.keys().into_iter().map(|key| key.kid).collect();
    assert_eq!(names, ["k1"]);

    std::fs::write(&path, "{}").unwrap();
    let refused = Verifier::new(&auth, Arc::clone(&fetch)).err();
    assert!(matches!(refused, Some(AuthSetupError::Unusable { .. })));
    std::fs::remove_file(&path).unwrap();
    let refused = Verifier::new(&auth, fetch).err();
    assert!(matches!(refused, Some(AuthSetupError::Unreadable { .. })));
}
