//! Signs tokens of any kind, and serves key sets without a network.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Uri;
use runtime::secret::Secret;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::auth::{AuthError, FetchJwks, Identity, KeySetError, Verifier};
use crate::config::{self, Algorithm, KeySource};

pub(super) const NOW: i64 = 1_800_000_000;
pub(super) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

pub(super) struct Signer {
    pub(super) kid: &'static str,
    pub(super) alg: &'static str,
    pub(super) jwk: Value,
    sign: Sign,
}

pub(super) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    pub(super) fn ed25519(kid: &'static str) -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let x = b64(pair.public_key());
        Self {
            kid,
            alg: "EdDSA",
            jwk: json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": kid, "x": x}),
            sign: Box::new(move |message| pair.sign(message).as_ref().to_vec()),
        }
    }

    pub(super) fn p256(kid: &'static str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let point = pair.public_key().as_ref().to_vec();
        Self {
            kid,
            alg: "ES256",
            jwk: json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": b64(&point[1..33]), "y": b64(&point[33..])}),
            sign: Box::new(move |message| {
                pair.sign(&SystemRandom::new(), message)
                    .unwrap()
                    .as_ref()
                    .to_vec()
            }),
        }
    }

    pub(super) fn rsa(kid: &'static str) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let public = pair.public_key();
        let n = b64(public.modulus().big_endian_without_leading_zero());
        let e = b64(public.exponent().big_endian_without_leading_zero());
        Self {
            kid,
            alg: "RS256",
            jwk: json!({"kty": "RSA", "kid": kid, "n": n, "e": e}),
            sign: Box::new(move |message| {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(
                    &RSA_PKCS1_SHA256,
                    &SystemRandom::new(),
                    message,
                    &mut signature,
                )
                .unwrap();
                signature
            }),
        }
    }

    pub(super) fn hmac(kid: &'static str, secret: &[u8]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        Self {
            kid,
            alg: "HS256",
            jwk: json!({"kty": "oct", "kid": kid, "k": b64(secret)}),
            sign: Box::new(move |message| hmac::sign(&key, message).as_ref().to_vec()),
        }
    }

    pub(super) fn header(&self) -> Value {
        json!({"alg": self.alg, "typ": "JWT", "kid": self.kid})
    }

    /// `Bearer` and a signed token with this header and these claims.
    pub(super) fn bearer(&self, header: &str, claims: &str) -> Vec<u8> {
        let signed = format!("{}.{}", b64(header), b64(claims));
        let signature = b64((self.sign)(signed.as_bytes()));
        format!("Bearer {signed}.{signature}").into_bytes()
    }

    pub(super) fn token(&self, claims: &Value) -> Vec<u8> {
        self.bearer(&self.header().to_string(), &claims.to_string())
    }
}

pub(super) fn claims() -> Value {
    json!({
        "iss": "sluice", "aud": "sluice-api", "sub": "user-1", "sid": "session-1",
        "iat": NOW, "nbf": NOW, "exp": NOW + 600, "jti": "token-1",
    })
}

/// The claims with one of them replaced, or removed if the value is `null`.
pub(super) fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    let members = claims.as_object_mut().unwrap();
    match value {
        Value::Null => members.remove(name),
        value => members.insert(name.to_owned(), value),
    };
    claims
}

/// A key set server in memory.
#[derive(Default)]
pub(super) struct Jwks {
    answer: Mutex<Option<Value>>,
    fetches: AtomicUsize,
    /// If set, answers only after `release`.
    held: Option<Notify>,
}

impl Jwks {
    pub(super) fn serving(signers: &[&Signer]) -> Arc<Self> {
        let jwks = Arc::new(Self::default());
        jwks.serve(signers);
        jwks
    }

    /// Keeps every caller waiting until [`Self::release`].
    pub(super) fn held() -> Self {
        Self {
            held: Some(Notify::new()),
            ..Self::default()
        }
    }

    pub(super) fn release(&self) {
        self.held.as_ref().unwrap().notify_one();
    }

    pub(super) fn serve(&self, signers: &[&Signer]) {
        let keys: Vec<&Value> = signers.iter().map(|s| &s.jwk).collect();
        *self.answer.lock().unwrap() = Some(json!({ "keys": keys }));
    }

    pub(super) fn serve_document(&self, document: Value) {
        *self.answer.lock().unwrap() = Some(document);
    }

    pub(super) fn go_away(&self) {
        *self.answer.lock().unwrap() = None;
    }

    pub(super) fn fetches(&self) -> usize {
        self.fetches.load(SeqCst)
    }
}

#[async_trait]
impl FetchJwks for Jwks {
    async fn fetch(&self, _: &Uri) -> Result<Bytes, KeySetError> {
        self.fetches.fetch_add(1, SeqCst);
        if let Some(held) = &self.held {
            held.notified().await;
        }
        let answer = self.answer.lock().unwrap().clone();
        match answer {
            Some(document) => Ok(document.to_string().into()),
            None => Err(KeySetError::Unreachable("nobody listens".into())),
        }
    }
}

pub(super) fn issuer(keys: KeySource, algorithms: &[Algorithm]) -> config::Issuer {
    config::Issuer {
        issuer: "sluice".into(),
        audience: "sluice-api".into(),
        keys,
        algorithms: algorithms.to_vec(),
        claims_to_headers: Default::default(),
    }
}

pub(super) fn url() -> KeySource {
    KeySource::JwksUrl(Uri::from_static("http://keys.test/jwks.json"))
}

pub(super) fn secret(text: &str) -> KeySource {
    KeySource::SharedSecret(Secret::new(text))
}

pub(super) fn auth(issuers: Vec<config::Issuer>) -> config::Auth {
    config::Auth {
        leeway: Duration::from_secs(5),
        issuers,
    }
}

/// A verifier for the platform's own issuer, with keys from `jwks`.
pub(super) fn verifier(jwks: &Arc<Jwks>, algorithms: &[Algorithm]) -> Arc<Verifier> {
    let auth = auth(vec![issuer(url(), algorithms)]);
    Verifier::new(&auth, Arc::clone(jwks) as Arc<dyn FetchJwks>).unwrap()
}

pub(super) async fn verify(
    verifier: &Verifier,
    authorization: &[u8],
) -> Result<Arc<Identity>, AuthError> {
    verifier.verify(authorization, CLIENT, NOW).await
}
