//! Turns bearer tokens into identities: the cache first, then the issuer's rules, then the signature.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::cache::TokenCache;
use super::claims::Token;
use super::error::{AuthError, AuthSetupError, Reason};
use super::guard::FailureGuard;
use super::identity::Identity;
use super::keys::{FetchJwks, Issuer, KeyInfo, KeySet};
use super::revocation_check::{NeverRevoked, RevocationCheck};
use crate::config;

/// Bytes. Longer tokens are refused without being parsed.
const MAX_TOKEN: usize = 8 * 1024;

/// Turns bearer tokens into identities.
pub struct Verifier {
    issuers: Vec<Arc<Issuer>>,
    leeway: i64,
    pub(super) cache: TokenCache,
    failures: FailureGuard,
    revocation: Arc<dyn RevocationCheck>,
}

impl Verifier {
    /// Reads key files; does no network I/O.
    pub fn new(
        auth: &config::Auth,
        fetch: Arc<dyn FetchJwks>,
    ) -> Result<Arc<Self>, AuthSetupError> {
        Self::with_revocation_check(auth, fetch, Arc::new(NeverRevoked))
    }

    /// The first issuer of the configuration is the platform's own: its tokens must have a session
    /// (`sid`) and a type (`typ`).
    pub fn with_revocation_check(
        auth: &config::Auth,
        fetch: Arc<dyn FetchJwks>,
        revocation: Arc<dyn RevocationCheck>,
    ) -> Result<Arc<Self>, AuthSetupError> {
        let issuers = auth.issuers.iter().enumerate().map(|(index, issuer)| {
            let keys = KeySet::new(issuer, Arc::clone(&fetch))?;
            Ok(Arc::new(Issuer::new(issuer, index == 0, keys)))
        });
        Ok(Arc::new(Self {
            issuers: issuers.collect::<Result<_, AuthSetupError>>()?,
            leeway: whole_seconds(auth.leeway),
            cache: TokenCache::default(),
            failures: FailureGuard::default(),
            revocation,
        }))
    }

    /// Loads every key set, retrying until that succeeds, and refreshes it from then on. Never returns;
    /// dropping the future stops the work.
    pub async fn run(&self) {
        let mut loading: JoinSet<()> = self
            .issuers
            .iter()
            .map(|issuer| Arc::clone(issuer).keep_keys_fresh())
            .collect();
        while loading.join_next().await.is_some() {}
        std::future::pending().await
    }

    /// Whether the keys of every issuer have been loaded at least once.
    pub fn is_ready(&self) -> bool {
        self.issuers.iter().all(|issuer| issuer.keys.is_loaded())
    }

    /// The keys in use, for `/status`.
    pub fn keys(&self) -> Vec<KeyInfo> {
        self.issuers.iter().flat_map(|i| i.key_infos()).collect()
    }

    /// Verifies the value of the only `Authorization` header. Failures are counted for `client`; `now` is
    /// in Unix seconds.
    pub async fn verify(
        &self,
        authorization: &[u8],
        client: IpAddr,
        now: i64,
    ) -> Result<Arc<Identity>, AuthError> {
        let token = bearer(authorization)?;
        if let Some(known) = self.look_up(token, now) {
            return known;
        }
        if self.failures.too_many(client) {
            return Err(AuthError::TooManyFailures);
        }
        let outcome = self.verify_unknown(token, now).await;
        if let Err(AuthError::Invalid(Reason::Signature | Reason::Key)) = outcome {
            self.failures.count(client);
        }
        outcome
    }

    /// The part of [`Self::verify`] that never waits. `None` for a token that is not cached.
    pub fn cached(
        &self,
        authorization: &[u8],
        now: i64,
    ) -> Option<Result<Arc<Identity>, AuthError>> {
        match bearer(authorization) {
            Ok(token) => self.look_up(token, now),
            Err(refused) => Some(Err(refused)),
        }
    }

    fn look_up(&self, token: &[u8], now: i64) -> Option<Result<Arc<Identity>, AuthError>> {
        let identity = self.cache.get(token)?;
        // Invariant: a cached token is accepted only if it would be accepted as a new one.
        Some(
            if now >= identity.expires_at().saturating_add(self.leeway) {
                Err(AuthError::Expired)
            } else {
                self.revocation.check(&identity).map(|()| identity)
            },
        )
    }

    async fn verify_unknown(&self, token: &[u8], now: i64) -> Result<Arc<Identity>, AuthError> {
        let token = Token::parse(token)?;
        let issuer = self
            .issuers
            .iter()
            .find(|issuer| Some(&*issuer.name) == token.claims.iss.as_deref())
            .ok_or(Reason::Issuer)?;
        issuer.check(&token, now, self.leeway)?;
        let key = issuer.key_for(&token.header).await?;
        if !key.signed(&token) {
            return Err(Reason::Signature.into());
        }
        let identity = Arc::new(Identity::new(&token, &issuer.claims_to_headers, key)?);
        self.revocation.check(&identity)?;
        self.cache
            .insert(token.text.as_bytes(), Arc::clone(&identity));
        Ok(identity)
    }
}

/// The token of `Bearer <token>`.
fn bearer(authorization: &[u8]) -> Result<&[u8], AuthError> {
    let scheme = authorization.len().min("Bearer".len());
    let (scheme, rest) = authorization.split_at(scheme);
    if !scheme.eq_ignore_ascii_case(b"Bearer") || rest.first().is_some_and(|b| *b != b' ') {
        return Err(AuthError::Missing);
    }
    let token = rest.trim_ascii();
    if token.len() > MAX_TOKEN {
        return Err(Reason::TooLong.into());
    }
    Ok(token)
}

fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
