//! The issuers and their keys.
//!
//! Each key is bound to one algorithm when it is loaded; a published key is never used for HS256. If a
//! set cannot be loaded or holds no usable key, the known keys stay in use. A key that a newer set no
//! longer contains is retired, and the tokens it signed are no longer accepted.

mod fetch;
mod jwks;
mod key;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderName, Uri};
use jsonwebtoken::DecodingKey;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use super::claims::{Header, Token};
use super::error::{AuthError, AuthSetupError, Reason};
use crate::config::{self, Algorithm, KeySource};

pub use fetch::{FetchJwks, HttpJwks, KeySetError};
pub use key::KeyInfo;
pub(super) use key::VerificationKey;
use key::algorithm_name;

const REFRESH_EVERY: Duration = Duration::from_secs(300);
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(2);
/// Unknown `kid`s cause at most one fetch per this interval.
const REFETCH_EVERY: Duration = Duration::from_secs(1);

/// An issuer and the rules for its tokens.
pub(super) struct Issuer {
    pub(super) name: Box<str>,
    audience: String,
    algorithms: Vec<Algorithm>,
    pub(super) claims_to_headers: Vec<(String, HeaderName)>,
    /// The issuer is the user worker of this platform, whose tokens must meet stricter rules.
    platform: bool,
    pub(super) keys: Arc<KeySet>,
}

impl Issuer {
    pub(super) fn new(config: &config::Issuer, platform: bool, keys: Arc<KeySet>) -> Self {
        Self {
            name: config.issuer.as_str().into(),
            audience: config.audience.clone(),
            algorithms: config.algorithms.clone(),
            claims_to_headers: config.claims_to_headers.clone().into_iter().collect(),
            platform,
            keys,
        }
    }

    /// Everything that can be checked without a key.
    pub(super) fn check(&self, token: &Token<'_>, now: i64, leeway: i64) -> Result<(), AuthError> {
        let (header, claims) = (&token.header, &token.claims);
        let typ_fits = match &header.typ {
            Some(typ) => ["JWT", "at+jwt", "application/at+jwt"]
                .iter()
                .any(|known| typ.eq_ignore_ascii_case(known)),
            None => !self.platform,
        };
        if !typ_fits {
            return Err(Reason::Type.into());
        }
        if !self
            .algorithms
            .iter()
            .any(|a| algorithm_name(*a) == header.alg)
        {
            return Err(Reason::Algorithm.into());
        }
        if !claims
            .aud
            .as_ref()
            .is_some_and(|aud| aud.contains(&self.audience))
        {
            return Err(Reason::Audience.into());
        }
        // Invariant: the same comparison, in whole seconds, as for cached tokens.
        let expires_at = claims.exp.ok_or(Reason::Expiry)?.floor() as i64;
        if now >= expires_at.saturating_add(leeway) {
            return Err(AuthError::Expired);
        }
        if claims
            .nbf
            .is_some_and(|nbf| nbf > now.saturating_add(leeway) as f64)
        {
            return Err(Reason::NotYetValid.into());
        }
        if claims.sub.is_none() {
            return Err(Reason::Subject.into());
        }
        if self.platform && claims.sid.is_none() {
            return Err(Reason::Session.into());
        }
        Ok(())
    }

    /// The key that the token names. An unknown key makes the key set be fetched once more.
    pub(super) async fn key_for(&self, header: &Header) -> Result<Arc<VerificationKey>, AuthError> {
        let key = match self.keys.find(header.kid.as_deref()) {
            Some(key) => key,
            None if header.kid.is_none() => return Err(Reason::Key.into()),
            None => {
                self.keys.refetch().await?;
                self.keys.find(header.kid.as_deref()).ok_or(Reason::Key)?
            }
        };
        if algorithm_name(key.algorithm) != header.alg {
            return Err(Reason::Algorithm.into());
        }
        Ok(key)
    }

    pub(super) fn key_infos(&self) -> Vec<KeyInfo> {
        let known = self.keys.known.load();
        let info = |key: &Arc<VerificationKey>| KeyInfo {
            kid: key.kid.clone().unwrap_or_default(),
            alg: algorithm_name(key.algorithm),
            issuer: self.name.to_string(),
        };
        known.iter().map(info).collect()
    }

    /// Loads the key set periodically. Returns at once if the keys cannot change.
    pub(super) async fn keep_keys_fresh(self: Arc<Self>) {
        let mut retry = FIRST_RETRY;
        while let Some(remote) = &self.keys.remote {
            let last_fetch = Arc::clone(&remote.last_fetch).lock_owned().await;
            match self.keys.load(remote, last_fetch).await {
                Ok(()) => {
                    retry = FIRST_RETRY;
                    sleep(REFRESH_EVERY).await;
                }
                Err(failure) => {
                    self.report(&failure, retry == FIRST_RETRY);
                    sleep(retry).await;
                    retry = (retry * 2).min(LAST_RETRY);
                }
            }
        }
    }

    /// Logs the first of several failures in a row as a warning, the others at debug level.
    fn report(&self, failure: &KeySetError, first: bool) {
        let error = failure as &dyn std::error::Error;
        if first {
            warn!(issuer = &*self.name, error, "the key set cannot be loaded");
        } else {
            debug!(issuer = &*self.name, error, "still no key set");
        }
    }
}

/// The keys of one issuer, and where to fetch newer ones.
pub(super) struct KeySet {
    known: ArcSwap<Vec<Arc<VerificationKey>>>,
    algorithms: Vec<Algorithm>,
    loaded: AtomicBool,
    /// `None` for keys from a file or a shared secret.
    remote: Option<RemoteKeySet>,
}

struct RemoteKeySet {
    uri: Uri,
    fetch: Arc<dyn FetchJwks>,
    /// The last fetch. Whoever holds the lock may fetch.
    last_fetch: Arc<Mutex<Option<FetchAttempt>>>,
}

struct FetchAttempt {
    ended: Instant,
    succeeded: bool,
}

impl KeySet {
    pub(super) fn new(
        config: &config::Issuer,
        fetch: Arc<dyn FetchJwks>,
    ) -> Result<Arc<Self>, AuthSetupError> {
        let (keys, remote) = match &config.keys {
            KeySource::JwksUrl(uri) => {
                let (uri, last_fetch) = (uri.clone(), Arc::default());
                (
                    Vec::new(),
                    Some(RemoteKeySet {
                        uri,
                        fetch,
                        last_fetch,
                    }),
                )
            }
            KeySource::JwksFile(path) => {
                let bytes = std::fs::read(path).map_err(|source| AuthSetupError::Unreadable {
                    path: path.clone(),
                    source,
                })?;
                let keys = jwks::parse(&bytes, &config.algorithms);
                let keys = keys.map_err(|source| AuthSetupError::Unusable {
                    path: path.clone(),
                    source,
                })?;
                (keys, None)
            }
            KeySource::SharedSecret(secret) => {
                let key = VerificationKey {
                    kid: None,
                    algorithm: Algorithm::Hs256,
                    decoding: DecodingKey::from_secret(secret.expose().as_bytes()),
                    published: None,
                    retired: AtomicBool::new(false),
                };
                (vec![key], None)
            }
        };
        Ok(Arc::new(Self {
            loaded: AtomicBool::new(remote.is_none()),
            known: ArcSwap::from_pointee(keys.into_iter().map(Arc::new).collect()),
            algorithms: config.algorithms.clone(),
            remote,
        }))
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.loaded.load(Acquire)
    }

    fn find(&self, kid: Option<&str>) -> Option<Arc<VerificationKey>> {
        let known = self.known.load();
        let fits = |key: &&Arc<VerificationKey>| key.kid.is_none() || key.kid.as_deref() == kid;
        known.iter().find(fits).cloned()
    }

    /// Fetches the key set, once for all callers at the same time and at most once per
    /// [`REFETCH_EVERY`]. A caller that comes too early waits for the next fetch, because its key may be
    /// newer than the last one; if the last one failed, it gets that error at once. The fetch continues
    /// when its caller disconnects, so that disconnecting does not cause another fetch.
    async fn refetch(self: &Arc<Self>) -> Result<(), AuthError> {
        let called_at = Instant::now();
        if self.remote.is_none() {
            return Ok(());
        }
        let keys = Arc::clone(self);
        let fetched = tokio::spawn(async move {
            let Some(remote) = &keys.remote else {
                return true;
            };
            let last_fetch = Arc::clone(&remote.last_fetch).lock_owned().await;
            if let Some(last) = &*last_fetch {
                let next = last.ended + REFETCH_EVERY;
                if last.ended >= called_at || (!last.succeeded && Instant::now() < next) {
                    return last.succeeded;
                }
                sleep_until(next).await;
            }
            let fetched = keys.load(remote, last_fetch).await;
            if let Err(failure) = &fetched {
                debug!(
                    error = failure as &dyn std::error::Error,
                    "no newer key set"
                );
            }
            fetched.is_ok()
        });
        match fetched.await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(AuthError::KeysUnavailable),
        }
    }

    async fn load(
        &self,
        remote: &RemoteKeySet,
        mut last_fetch: OwnedMutexGuard<Option<FetchAttempt>>,
    ) -> Result<(), KeySetError> {
        let bytes = fetch::within_deadline(&*remote.fetch, &remote.uri).await;
        let keys = bytes.and_then(|bytes| jwks::parse(&bytes, &self.algorithms));
        *last_fetch = Some(FetchAttempt {
            ended: Instant::now(),
            succeeded: keys.is_ok(),
        });
        self.replace(keys?);
        Ok(())
    }

    /// Keys that remain keep their `Arc`, so the tokens they signed stay in the cache.
    fn replace(&self, newer: Vec<VerificationKey>) {
        let older = self.known.load_full();
        let stays = |key: &VerificationKey| {
            older
                .iter()
                .find(|old| old.published == key.published)
                .cloned()
        };
        let next: Vec<Arc<VerificationKey>> = newer
            .into_iter()
            .map(|key| stays(&key).unwrap_or_else(|| Arc::new(key)))
            .collect();
        let gone = older
            .iter()
            .filter(|old| !next.iter().any(|key| Arc::ptr_eq(key, old)));
        let gone: Vec<Arc<VerificationKey>> = gone.cloned().collect();
        if !gone.is_empty() || next.len() != older.len() {
            info!(
                keys = next.len(),
                retired = gone.len(),
                "the key set has changed"
            );
        }
        self.known.store(Arc::new(next));
        for key in gone {
            key.retired.store(true, Release);
        }
        self.loaded.store(true, Release);
    }
}
