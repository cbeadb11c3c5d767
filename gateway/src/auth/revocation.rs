//! The feed of ended sessions, which the user workers serve.
//!
//! Every [`EVERY`], one user worker is asked for sessions that ended since the last answer
//! ([`contract::revocation`]). An ended session is remembered for as long as one of its tokens could
//! still be valid. Every request is checked against the ended sessions, with two lookups in maps that
//! need no lock. A feed without an answer for [`STALE`] is stale; the configuration decides what that
//! means for requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use contract::identity::{GATEWAY_SIGNATURE, GATEWAY_TIME, SigningKeys};
use contract::revocation::{Ended, Ends, MAX_ENDED, OVERLAP, PATH};
use http::{HeaderMap, Method};
use jiff::Timestamp;
use runtime::client::{Client, ClientError};

use super::error::AuthError;
use super::identity::Identity;
use super::revocation_check::RevocationCheck;
use crate::config::WhenStale;
use crate::upstream::Cluster;

#[cfg(test)]
mod tests;

/// The interval at which the feed is asked. Each time costs a worker one index lookup.
const EVERY: Duration = Duration::from_millis(100);
const DEADLINE: Duration = Duration::from_secs(1);
/// The feed is stale when its last answer is older than this.
const STALE: Duration = Duration::from_secs(5);
/// Bytes. Larger than any answer, which has at most [`MAX_ENDED`] sessions.
const MAX_ANSWER: usize = 1 << 20;
/// New ends are kept in a map of their own until there are this many, so that adding one does not copy
/// all of them.
const RECENT: usize = 1_000;
/// The most ends that are remembered, at about 100 bytes each. Beyond that, the feed counts as stale.
const MAX_ENDS: usize = 200_000;
/// How much longer an end is remembered than its tokens live: clocks differ, and gateways allow leeway.
const LEEWAY: Duration = Duration::from_secs(60);

/// The ended sessions, and how recent this knowledge is.
pub struct Revocations {
    known: ArcSwap<EndedSessions>,
    /// When a worker last answered; none until all earlier ends are loaded.
    answered: ArcSwapOption<Instant>,
    started: Instant,
    when_stale: WhenStale,
    /// The number of distinct ends received.
    learnt: AtomicU64,
    failed: AtomicU64,
}

/// Each ended session with the time of its end, in two maps. Only the small map, `recent`, is copied for
/// every change.
#[derive(Default)]
struct EndedSessions {
    older: Arc<EndTimes>,
    recent: EndTimes,
}

type EndTimes = HashMap<Box<str>, Timestamp>;

/// The state of the feed, for `/status` and the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedStatus {
    pub learnt: u64,
    pub failed: u64,
    /// Time since the last answer; `None` before the first.
    pub age: Option<Duration>,
}

impl Revocations {
    pub fn new(when_stale: WhenStale) -> Self {
        Self {
            known: ArcSwap::default(),
            answered: ArcSwapOption::empty(),
            started: Instant::now(),
            when_stale,
            learnt: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    pub fn feed_status(&self) -> FeedStatus {
        FeedStatus {
            learnt: self.learnt.load(Relaxed),
            failed: self.failed.load(Relaxed),
            age: self.answered.load().as_deref().map(Instant::elapsed),
        }
    }

    /// Whether the gateway may become ready: the earlier ends are loaded, or the configuration allows a
    /// stale feed and it has become stale.
    pub fn is_ready(&self) -> bool {
        let loaded = self.answered.load().is_some();
        loaded || (self.when_stale == WhenStale::Allow && self.started.elapsed() > STALE)
    }

    /// The time since a worker last answered, or since the start.
    pub fn age(&self) -> Duration {
        let answered = self.answered.load();
        answered.as_deref().unwrap_or(&self.started).elapsed()
    }

    /// Whether sessions may have ended that are not known here.
    fn is_stale(&self) -> bool {
        let never = self.answered.load().is_none();
        never || self.age() > STALE || self.known.load().len() >= MAX_ENDS
    }

    /// Follows the feed of a service's workers, forever.
    pub async fn run(&self, cluster: &Cluster, client: &Client, keys: &SigningKeys) {
        // Where the next answer should start; none before the first answer.
        let mut since = None;
        let mut attempt = 0;
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            match self.ask(cluster, client, keys, since, attempt).await {
                Ok(now) => {
                    if since.is_none() {
                        tracing::info!(
                            ends = self.learnt.load(Relaxed),
                            "ended sessions are known"
                        );
                    }
                    since = now.checked_sub(OVERLAP).ok();
                    self.answered.store(Some(Arc::new(Instant::now())));
                }
                Err(error) => {
                    // The next tick asks another worker, so one that hangs costs at most a second.
                    attempt += 1;
                    self.failed.fetch_add(1, Relaxed);
                    tracing::debug!(
                        error = runtime::error::chain(&error),
                        "the feed of ended sessions did not answer"
                    );
                }
            }
        }
    }

    /// Asks one worker until it has reported everything. Returns the worker's time at its first answer.
    async fn ask(
        &self,
        cluster: &Cluster,
        client: &Client,
        keys: &SigningKeys,
        since: Option<Timestamp>,
        attempt: usize,
    ) -> Result<Timestamp, FeedError> {
        let replicas = cluster.replicas();
        let healthy: Vec<_> = replicas.iter().filter(|one| one.is_healthy()).collect();
        let candidates = if healthy.is_empty() {
            replicas.iter().collect()
        } else {
            healthy
        };
        let replica = candidates
            .get(attempt % candidates.len().max(1))
            .ok_or(FeedError::NoWorker)?;
        let mut target = match since {
            Some(since) => format!("{PATH}?since={}", since.as_millisecond()),
            None => PATH.to_owned(),
        };
        let mut started_at = None;
        loop {
            let uri = format!("http://{}{target}", replica.address).parse()?;
            let headers = signed(&target, keys);
            let answer = client.get_with(&uri, headers, DEADLINE, MAX_ANSWER);
            let answer = answer.await?;
            if !answer.status.is_success() {
                return Err(FeedError::Refused(answer.status));
            }
            let ends: Ends = serde_json::from_slice(&answer.body)?;
            let more = ends.ended.last().filter(|_| ends.ended.len() >= MAX_ENDED);
            let next = more.map(|last| {
                format!(
                    "{PATH}?since={}&after={}",
                    last.at.as_millisecond(),
                    last.sid
                )
            });
            self.learn(
                &ends.ended,
                ends.now,
                Duration::from_millis(ends.tokens_live_ms),
            );
            let started_at = *started_at.get_or_insert(ends.now);
            match next {
                Some(next) => target = next,
                None => return Ok(started_at),
            }
        }
    }

    /// Adds new ends. From time to time, forgets those whose tokens have all expired.
    fn learn(&self, ended: &[Ended], now: Timestamp, tokens_live: Duration) {
        let known = self.known.load();
        let new: Vec<_> = ended
            .iter()
            .filter(|end| !known.has(end.sid.as_str()))
            .collect();
        if new.is_empty() {
            return;
        }
        self.learnt.fetch_add(new.len() as u64, Relaxed);
        let mut recent = known.recent.clone();
        recent.extend(new.into_iter().map(|end| (end.sid.as_str().into(), end.at)));
        if recent.len() < RECENT {
            let older = known.older.clone();
            self.known.store(Arc::new(EndedSessions { older, recent }));
            return;
        }
        let expired_before = now
            .checked_sub(tokens_live + LEEWAY)
            .unwrap_or(Timestamp::MIN);
        let all = known.older.iter().chain(&recent);
        let older = all
            .filter(|(_, at)| **at > expired_before)
            .map(|(sid, at)| (sid.clone(), *at))
            .take(MAX_ENDS)
            .collect();
        self.known.store(Arc::new(EndedSessions {
            older: Arc::new(older),
            recent: HashMap::new(),
        }));
    }
}

impl RevocationCheck for Revocations {
    fn check(&self, identity: &Identity) -> Result<(), AuthError> {
        // Tokens of other issuers have no session on this platform.
        let Some(session) = identity.session_id_str() else {
            return Ok(());
        };
        if self.known.load().has(session) {
            return Err(AuthError::Revoked);
        }
        if self.when_stale == WhenStale::Deny && self.is_stale() {
            return Err(AuthError::RevocationUnavailable);
        }
        Ok(())
    }
}

impl EndedSessions {
    fn has(&self, session: &str) -> bool {
        self.recent.contains_key(session) || self.older.contains_key(session)
    }

    fn len(&self) -> usize {
        self.recent.len() + self.older.len()
    }
}

/// Why a worker did not report.
#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error("the service has no worker")]
    NoWorker,
    #[error("the worker cannot be reached")]
    Client(#[from] ClientError),
    #[error("the worker answers {0}")]
    Refused(http::StatusCode),
    #[error("the worker's answer is not a list of ends")]
    Answer(#[from] serde_json::Error),
    #[error("the worker's address makes no URI")]
    Uri(#[from] http::uri::InvalidUri),
}

/// Headers with a gateway's signature, for a request on behalf of no user.
fn signed(target: &str, keys: &SigningKeys) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(GATEWAY_TIME, Timestamp::now().as_millisecond().into());
    let signature = keys.sign(Method::GET.as_str(), target, &headers);
    headers.insert(GATEWAY_SIGNATURE, signature);
    headers
}
