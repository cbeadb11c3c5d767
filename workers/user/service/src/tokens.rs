//! Access tokens: JWTs (RFC 9068) signed with EdDSA, and the public keys that verify them.
//!
//! A token names the user and the session and is valid for [`LIFETIME`]; nothing here can revoke
//! it. The gateway verifies tokens with the keys of [`Tokens::jwks`]. A private key never leaves
//! this module. Handlers call [`Tokens`].

use std::fmt;
use std::time::Duration;

use anyhow::Context;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use contract::id::{SessionId, UserId};
use contract::identity::parse_keys;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use serde_json::{Value, json};

/// How long an access token is valid.
pub const LIFETIME: Duration = Duration::from_secs(600);

/// The signing keys, newest first. The first one signs and all are published, so that a rotation
/// refuses no valid token.
pub struct TokenKeys(Vec<TokenKey>);

struct TokenKey {
    kid: String,
    signing: EncodingKey,
    /// The public key, as RFC 8037 writes it.
    public: String,
}

impl TokenKeys {
    /// Parses `kid:hex,kid:hex`, newest first. Each `hex` is the 32-byte seed of an Ed25519 key.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse_keys(text)?
            .into_iter()
            .map(|(kid, seed)| TokenKey::new(kid, &seed))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl TokenKey {
    fn new(kid: String, seed: &[u8]) -> Result<Self, String> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| {
            format!("key `{kid}` is not 32 bytes; make one with `openssl rand -hex 32`")
        })?;
        let pkcs8 = pair
            .to_pkcs8v1()
            .map_err(|_| format!("key `{kid}` cannot be used"))?;
        Ok(Self {
            kid,
            signing: EncodingKey::from_ed_der(pkcs8.as_ref()),
            public: BASE64_URL_SAFE_NO_PAD.encode(pair.public_key().as_ref()),
        })
    }
}

/// Issues access tokens.
pub struct Tokens {
    keys: TokenKeys,
    issuer: String,
    audience: String,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a UserId,
    sid: &'a SessionId,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: String,
}

impl Tokens {
    pub fn new(keys: TokenKeys, issuer: String, audience: String) -> Self {
        Self {
            keys,
            issuer,
            audience,
        }
    }

    /// A token for this user and session, valid from `now`.
    pub fn issue(
        &self,
        user: &UserId,
        session: &SessionId,
        now: Timestamp,
    ) -> anyhow::Result<String> {
        let key = self.keys.0.first().context("there is no signing key")?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some("at+jwt".to_owned());
        header.kid = Some(key.kid.clone());
        let iat = now.as_second();
        let claims = Claims {
            iss: &self.issuer,
            aud: &self.audience,
            sub: user,
            sid: session,
            iat,
            nbf: iat,
            exp: iat + LIFETIME.as_secs() as i64,
            jti: uuid::Uuid::now_v7().to_string(),
        };
        jsonwebtoken::encode(&header, &claims, &key.signing)
            .context("an access token could not be signed")
    }

    /// The public keys as a JWK set (RFC 7517, RFC 8037).
    pub fn jwks(&self) -> Value {
        let keys = self.keys.0.iter().map(|key| {
            json!({
                "kty": "OKP",
                "crv": "Ed25519",
                "alg": "EdDSA",
                "use": "sig",
                "kid": key.kid,
                "x": key.public,
            })
        });
        json!({"keys": keys.collect::<Vec<_>>()})
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kids: Vec<_> = self.keys.0.iter().map(|key| &key.kid).collect();
        f.debug_struct("Tokens")
            .field("issuer", &self.issuer)
            .field("kids", &kids)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::jwk::JwkSet;
    use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};

    use super::*;

    fn tokens(keys: &str) -> Tokens {
        let keys = TokenKeys::parse(keys).unwrap();
        Tokens::new(keys, "sluice".to_owned(), "sluice-api".to_owned())
    }

    fn seed(kid: &str, byte: &str) -> String {
        format!("{kid}:{}", byte.repeat(32))
    }

    /// The claims of a token, verified with nothing but the published keys.
    fn verified(token: &str, jwks: Value) -> jsonwebtoken::errors::Result<Value> {
        let jwks: JwkSet = serde_json::from_value(jwks).unwrap();
        let kid = decode_header(token)?.kid.unwrap();
        let key = DecodingKey::from_jwk(jwks.find(&kid).expect("a published key"))?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&["sluice"]);
        validation.set_audience(&["sluice-api"]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        decode(token, &key, &validation).map(|data| data.claims)
    }

    #[test]
    fn a_token_verifies_with_the_published_keys_and_says_who_and_for_how_long() {
        let tokens = tokens(&seed("t1", "07"));
        let (user, session, now) = (UserId::new(), SessionId::new(), Timestamp::now());
        let token = tokens.issue(&user, &session, now).unwrap();
        assert_eq!(
            decode_header(&token).unwrap().typ.as_deref(),
            Some("at+jwt")
        );
        let claims = verified(&token, tokens.jwks()).unwrap();
        assert_eq!(claims["sub"], user.as_str());
        assert_eq!(claims["sid"], session.as_str());
        assert_eq!(claims["iat"], now.as_second());
        assert_eq!(
            claims["exp"].as_i64().unwrap() - claims["nbf"].as_i64().unwrap(),
            600
        );
        let other = tokens.issue(&user, &session, now).unwrap();
        assert_ne!(
            claims["jti"],
            verified(&other, tokens.jwks()).unwrap()["jti"]
        );
    }

    #[test]
    fn a_rotated_key_still_verifies_and_no_longer_signs() {
        let before = tokens(&seed("t1", "01"));
        let after = tokens(&format!("{},{}", seed("t2", "02"), seed("t1", "01")));
        let (user, session) = (UserId::new(), SessionId::new());
        let old = before.issue(&user, &session, Timestamp::now()).unwrap();
        let new = after.issue(&user, &session, Timestamp::now()).unwrap();
        assert!(verified(&old, after.jwks()).is_ok());
        assert_eq!(decode_header(&new).unwrap().kid.as_deref(), Some("t2"));
        assert!(verified(&new, tokens(&seed("t2", "01")).jwks()).is_err());
    }

    #[test]
    fn a_seed_gives_the_key_of_rfc_8037() {
        let tokens = tokens("a:9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        assert_eq!(
            tokens.jwks()["keys"][0]["x"],
            "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
        );
    }

    #[test]
    fn keys_of_another_length_are_refused() {
        assert!(TokenKeys::parse("t1:0011").is_err());
        assert!(TokenKeys::parse(&seed("t1", "0000")).is_err());
    }
}
