//! Token buckets in Redis, shared by all gateways.
//!
//! One atomic script call per bucket, all buckets of a request in one round trip, under a deadline
//! of its own. A debit is never repeated when its outcome is unknown: a late answer is a lost
//! token. While Redis does not answer, the breaker keeps requests away from it, every policy does
//! what its `on_redis_failure` says, and a task in the background tries a fresh connection.
//!
//! The connection is made on the runtime of the first call, and lives there.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::TcpSettings;
use redis::{Client, Cmd, IntoConnectionInfo, Pipeline, RedisError, Script, Value};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::breaker::{Breaker, Switch};
use super::bucket::{Outcome, Shape};
use super::key::BucketKey;
use super::local::LocalLimiter;
use super::{Decision, Mode, RateLimiter, RedisCalls, Snapshot, Status, Take, decision, tally};
use crate::config::FailureMode;

const SCRIPT: &str = include_str!("token_bucket.lua");
const PROBE_EVERY: Duration = Duration::from_millis(250);
const CONNECT_DEADLINE: Duration = Duration::from_millis(250);
/// Commands under way on the one connection; more wait, under their deadline.
const MAX_IN_FLIGHT: usize = 2048;

/// Where the buckets are. No `Debug`: the URL may hold a password.
#[derive(Clone)]
pub struct RedisSettings {
    /// `redis://` or `rediss://`, with user, password and database.
    pub url: String,
    /// For one decision.
    pub deadline: Duration,
    /// Begins every key.
    pub namespace: String,
}

/// Clones share one connection and one breaker.
#[derive(Clone)]
pub struct RedisLimiter(Arc<Inner>);

struct Inner {
    client: Client,
    script: Script,
    deadline: Duration,
    namespace: Box<str>,
    link: ArcSwapOption<ConnectionManager>,
    first_link: Mutex<()>,
    switch: Switch,
    local: LocalLimiter,
    answered: AtomicU64,
    failed: AtomicU64,
}

/// Why Redis did not decide.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no answer within the deadline")]
    Late(#[from] tokio::time::error::Elapsed),
    #[error("the call failed")]
    Call(#[from] RedisError),
    #[error("the script answered something else")]
    Reply,
}

impl RedisLimiter {
    /// Reads the URL; does no I/O.
    pub fn new(settings: &RedisSettings) -> Result<Self, RedisError> {
        let info = settings.url.as_str().into_connection_info()?;
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        Ok(Self(Arc::new(Inner {
            client: Client::open(info)?,
            script: Script::new(SCRIPT),
            deadline: settings.deadline,
            namespace: settings.namespace.as_str().into(),
            link: ArcSwapOption::empty(),
            first_link: Mutex::new(()),
            switch: Switch::default(),
            local: LocalLimiter::of_one_gateway(),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        })))
    }
}

#[async_trait]
impl RateLimiter for RedisLimiter {
    async fn take(&self, takes: &[Take<'_>]) -> Decision {
        let inner = &self.0;
        if takes.is_empty() {
            return Decision::Allowed(Vec::new());
        }
        if inner.switch.state() != Breaker::Closed {
            return inner.without_redis(takes);
        }
        match inner.ask(takes).await {
            Ok(decision) => {
                inner.switch.succeeded();
                tally::count(&decision);
                decision
            }
            Err(failure) => {
                if inner.switch.failed() {
                    inner.lose(&failure);
                }
                inner.without_redis(takes)
            }
        }
    }

    fn status(&self) -> Status {
        let breaker = self.0.switch.state();
        Status {
            mode: match breaker {
                Breaker::Closed => Mode::Redis,
                Breaker::Open | Breaker::HalfOpen => Mode::Local,
            },
            breaker,
            redis_calls: RedisCalls {
                answered: self.0.answered.load(Relaxed),
                failed: self.0.failed.load(Relaxed),
            },
        }
    }
}

impl Inner {
    async fn ask(&self, takes: &[Take<'_>]) -> Result<Decision, Failure> {
        let mut link = self.link()?;
        let asked = timeout(self.deadline, async {
            let outcomes = self.outcomes(&mut link, takes).await?;
            let refused = outcomes.iter().any(|o| !o.admitted);
            let admitted = takes.iter().zip(&outcomes).filter(|(_, o)| o.admitted);
            let mut back = Pipeline::new();
            if refused {
                for (take, _) in admitted {
                    let shape = take.quota.shape;
                    let cost = -(shape.token.cast_signed());
                    back.add_command(self.command(&self.bucket(take), shape, cost, false));
                }
            }
            if !back.is_empty() {
                self.send(&mut link, &back).await?;
            }
            Ok::<_, Failure>((outcomes, refused))
        });
        let (outcomes, refused) = asked.await.map_err(|late| {
            self.failed.fetch_add(takes.len() as u64, Relaxed);
            Failure::Late(late)
        })??;
        let snapshots = takes.iter().zip(outcomes).map(|(take, mut outcome)| {
            if refused && outcome.admitted {
                outcome.level += take.quota.shape.token;
            }
            self.local.observe(*take, outcome.level);
            Snapshot::new(take.quota, take.quota.shape, outcome)
        });
        Ok(decision(snapshots.collect()))
    }

    /// One debit per take, in one round trip; a second one when Redis has lost the script.
    async fn outcomes(
        &self,
        link: &mut ConnectionManager,
        takes: &[Take<'_>],
    ) -> Result<Vec<Outcome>, Failure> {
        let debit = |take: &Take<'_>, whole_script| {
            let shape = take.quota.shape;
            self.command(
                &self.bucket(take),
                shape,
                shape.token.cast_signed(),
                whole_script,
            )
        };
        let mut batch = Pipeline::with_capacity(takes.len());
        for take in takes {
            batch.add_command(debit(take, false));
        }
        let mut replies = self.send(link, &batch).await?;

        // A script that was not found was not run, so asking again takes nothing twice.
        let missing: Vec<usize> = (0..replies.len())
            .filter(|i| not_loaded(&replies[*i]))
            .collect();
        if !missing.is_empty() {
            let mut again = Pipeline::with_capacity(missing.len());
            for &index in &missing {
                again.add_command(debit(&takes[index], true));
            }
            for (index, reply) in missing.into_iter().zip(self.send(link, &again).await?) {
                replies[index] = reply;
            }
        }
        replies.into_iter().map(outcome).collect()
    }

    async fn send(
        &self,
        link: &mut ConnectionManager,
        batch: &Pipeline,
    ) -> Result<Vec<Value>, Failure> {
        let count = batch.len();
        let replies = link.send_packed_commands(batch, 0, count).await;
        let refused = |reply: &&Value| matches!(reply, Value::ServerError(_)) && !not_loaded(reply);
        let failed = match &replies {
            Ok(replies) => replies.iter().filter(refused).count(),
            Err(_) => count,
        };
        self.failed.fetch_add(failed as u64, Relaxed);
        self.answered.fetch_add((count - failed) as u64, Relaxed);
        let replies = replies?;
        if replies.len() != count {
            return Err(Failure::Reply);
        }
        Ok(replies)
    }

    fn bucket(&self, take: &Take<'_>) -> BucketKey {
        BucketKey::new(&self.namespace, take.quota.name(), take.key)
    }

    fn command(&self, bucket: &[u8], shape: Shape, cost: i64, whole_script: bool) -> Cmd {
        let mut command = Cmd::with_capacity(8, 160);
        if whole_script {
            command.arg("EVAL").arg(SCRIPT);
        } else {
            command.arg("EVALSHA").arg(self.script.get_hash());
        }
        command
            .arg(1)
            .arg(bucket)
            .arg(shape.refill)
            .arg(shape.token)
            .arg(shape.capacity)
            .arg(cost);
        command
    }

    /// The connection there is, or the first one: it connects when it is used.
    fn link(&self) -> Result<ConnectionManager, RedisError> {
        if let Some(link) = &*self.link.load() {
            return Ok(ConnectionManager::clone(link));
        }
        let _one_at_a_time = self
            .first_link
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = self.link.load_full() {
            return Ok(ConnectionManager::clone(&link));
        }
        let link = ConnectionManager::new_lazy_with_config(self.client.clone(), link_config())?;
        self.link.store(Some(Arc::new(link.clone())));
        Ok(link)
    }

    /// Makes a fresh connection the current one, once a bucket can be written over it in time.
    async fn connect(&self) -> Result<(), Failure> {
        let client = self.client.clone();
        let connecting = ConnectionManager::new_with_config(client, link_config());
        let mut link = timeout(CONNECT_DEADLINE, connecting).await??;
        let mut batch = Pipeline::new();
        let shape = Shape {
            refill: 1,
            token: 1,
            capacity: 1,
        };
        batch.add_command(self.command(
            &BucketKey::new(&self.namespace, "_", b"probe"),
            shape,
            0,
            true,
        ));
        let replies = timeout(self.deadline, self.send(&mut link, &batch)).await??;
        replies
            .into_iter()
            .try_for_each(|reply| outcome(reply).map(drop))?;
        self.link.store(Some(Arc::new(link)));
        Ok(())
    }

    /// The breaker has opened: says so, and starts the probing that will close it.
    fn lose(self: &Arc<Self>, failure: &Failure) {
        warn!(
            error = failure as &dyn std::error::Error,
            "redis does not decide any more, limits are local"
        );
        tokio::spawn(probe(Arc::downgrade(self)));
    }

    /// What each policy wants while Redis is away.
    fn without_redis(&self, takes: &[Take<'_>]) -> Decision {
        let wants = |mode| takes.iter().any(|t| t.quota.on_redis_failure == mode);
        if wants(FailureMode::Deny) {
            tally::count_unseen(takes, FailureMode::Deny);
            return Decision::Unavailable;
        }
        let local = |take: &Take<'_>| take.quota.on_redis_failure == FailureMode::Local;
        let decision = self.local.decide(takes.iter().copied().filter(local));
        tally::count(&decision);
        if matches!(decision, Decision::Allowed(_)) {
            tally::count_unseen(takes, FailureMode::Allow);
        }
        decision
    }
}

/// Tries a fresh connection until one works, or the limiter is gone.
async fn probe(inner: Weak<Inner>) {
    loop {
        sleep(PROBE_EVERY).await;
        let Some(inner) = inner.upgrade() else { return };
        inner.switch.half_open();
        match inner.connect().await {
            Ok(()) => {
                inner.switch.close();
                info!("redis decides again");
                return;
            }
            Err(failure) => {
                inner.switch.reopen();
                debug!(
                    error = &failure as &dyn std::error::Error,
                    "redis is still away"
                );
            }
        }
    }
}

fn link_config() -> ConnectionManagerConfig {
    ConnectionManagerConfig::new()
        .set_connection_timeout(Some(CONNECT_DEADLINE))
        .set_response_timeout(None)
        .set_number_of_retries(0)
        .set_concurrency_limit(MAX_IN_FLIGHT)
}

fn not_loaded(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if error.code() == "NOSCRIPT")
}

fn outcome(reply: Value) -> Result<Outcome, Failure> {
    match reply {
        Value::Array(items) => match items[..] {
            [Value::Int(admitted), Value::Int(level)] => Ok(Outcome {
                admitted: admitted == 1,
                level: u64::try_from(level).map_err(|_| Failure::Reply)?,
            }),
            _ => Err(Failure::Reply),
        },
        Value::ServerError(error) => Err(Failure::Call(error.into())),
        _ => Err(Failure::Reply),
    }
}
