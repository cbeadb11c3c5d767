//! Calls the token bucket script in Redis.
//!
//! All calls share one connection, on which they are pipelined. The connection is created on the
//! runtime of the first call, and stays there. A call is never repeated if its result is unknown.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::{Cmd, RedisError, Script, Value};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::bucket::Shape;
use super::port::RedisCalls;
use super::renewal::{Grant, LIFETIME_MICROS, Renewal};
use super::server::{CONNECT_DEADLINE, Connection, Server};

const SCRIPT: &str = include_str!("token_bucket.lua");

/// Where the buckets are. Has no `Debug`, because the URL may hold a password.
#[derive(Clone)]
pub struct RedisSettings {
    /// `redis://user:password@host:port/database`, or `rediss://`; `redis-sentinel://host,host/master`
    /// and `redis-cluster://host,host`.
    pub url: String,
    /// The deadline of one call. A request may wait for the pending call and for the next one.
    pub deadline: Duration,
    /// The prefix of every key.
    pub namespace: String,
}

pub(super) struct BucketClient {
    server: Server,
    script: Script,
    pub(super) deadline: Duration,
    current: ArcSwapOption<Connection>,
    connecting: Mutex<()>,
    answered: AtomicU64,
    failed: AtomicU64,
}

/// Why Redis did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no answer within the deadline")]
    Late(#[from] tokio::time::error::Elapsed),
    #[error("the call failed")]
    Call(#[from] RedisError),
    #[error("the script answered something else")]
    Reply,
}

impl BucketClient {
    /// Reads the URL; does no I/O.
    pub(super) fn new(settings: &RedisSettings) -> Result<Self, RedisError> {
        Ok(Self {
            server: Server::parse(&settings.url)?,
            script: Script::new(SCRIPT),
            deadline: settings.deadline,
            current: ArcSwapOption::empty(),
            connecting: Mutex::new(()),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        })
    }

    /// Calls the script over the current connection, without a deadline.
    pub(super) async fn call(&self, bucket: &[u8], renewal: &Renewal) -> Result<Grant, Failure> {
        let mut connection = self.connection().await?;
        self.call_over(&mut connection, bucket, renewal).await
    }

    async fn call_over(
        &self,
        connection: &mut Connection,
        bucket: &[u8],
        renewal: &Renewal,
    ) -> Result<Grant, Failure> {
        let by_hash = self.command(bucket, renewal, false);
        let mut reply = self.send(connection, &by_hash).await;
        // A script that was not found did not run, so a second call takes nothing twice.
        if matches!(&reply, Err(Failure::Call(error)) if error.code() == Some("NOSCRIPT")) {
            let whole = self.command(bucket, renewal, true);
            reply = self.send(connection, &whole).await;
        }
        parse_grant(&reply?)
    }

    async fn send(&self, connection: &mut Connection, command: &Cmd) -> Result<Value, Failure> {
        let reply = match connection.send(command).await {
            Ok(Value::ServerError(error)) => Err(RedisError::from(error)),
            reply => reply,
        };
        let answered = match &reply {
            Err(error) => error.code() == Some("NOSCRIPT"),
            Ok(_) => true,
        };
        let counter = if answered {
            &self.answered
        } else {
            &self.failed
        };
        counter.fetch_add(1, Relaxed);
        Ok(reply?)
    }

    fn command(&self, bucket: &[u8], renewal: &Renewal, whole: bool) -> Cmd {
        let mut command = Cmd::with_capacity(18, 256);
        if whole {
            command.arg("EVAL").arg(SCRIPT);
        } else {
            command.arg("EVALSHA").arg(self.script.get_hash());
        }
        command.arg(1).arg(bucket);
        arguments(renewal, &mut |argument| {
            command.arg(argument);
        });
        command
    }

    /// The current connection; creates the first one.
    async fn connection(&self) -> Result<Connection, RedisError> {
        if let Some(connection) = &*self.current.load() {
            return Ok(Connection::clone(connection));
        }
        let _one_at_a_time = self.connecting.lock().await;
        if let Some(connection) = &*self.current.load() {
            return Ok(Connection::clone(connection));
        }
        let connection = self.server.lazy_connection().await?;
        self.current.store(Some(Arc::new(connection.clone())));
        Ok(connection)
    }

    /// Makes a fresh connection the current one, after a write to `bucket` over it met its deadline.
    pub(super) async fn reconnect(&self, bucket: &[u8]) -> Result<(), Failure> {
        let mut connection = timeout(CONNECT_DEADLINE, self.server.connect()).await??;
        let shape = Shape {
            refill: 1,
            token: 1,
            capacity: 1,
        };
        // A settlement writes, so this also finds a Redis that is read-only.
        let renewal = Renewal::settlement(1, shape);
        let call = self.call_over(&mut connection, bucket, &renewal);
        timeout(self.deadline, call).await??;
        self.current.store(Some(Arc::new(connection)));
        Ok(())
    }

    pub(super) fn calls(&self) -> RedisCalls {
        RedisCalls {
            answered: self.answered.load(Relaxed),
            failed: self.failed.load(Relaxed),
        }
    }

    /// Counts a call that was given up as failed.
    pub(super) fn count_given_up(&self) {
        self.failed.fetch_add(1, Relaxed);
    }
}

/// The script's arguments, in the order that the script's first comment lists.
pub(super) fn arguments(renewal: &Renewal, put: &mut dyn FnMut(&str)) {
    let shape = renewal.shape;
    let mut digits = itoa::Buffer::new();
    let id = |id: u64| {
        if id == 0 {
            String::new()
        } else {
            format!("{id:x}")
        }
    };
    for number in [shape.refill, shape.token, shape.capacity] {
        put(digits.format(number));
    }
    put(&id(renewal.settled));
    for number in [
        renewal.kept,
        renewal.want,
        renewal.least,
        renewal.must,
        renewal.spent,
        renewal.parts,
    ] {
        put(digits.format(number));
    }
    put(&id(renewal.lease));
    for number in [LIFETIME_MICROS, renewal.debt, renewal.unknown] {
        put(digits.format(number));
    }
}

pub(super) fn parse_grant(reply: &Value) -> Result<Grant, Failure> {
    let number = |value: &Value| match value {
        Value::Int(number) => u64::try_from(*number).map_err(|_| Failure::Reply),
        _ => Err(Failure::Reply),
    };
    match reply {
        Value::Array(items) if items.len() == 3 => Ok(Grant {
            granted: number(&items[0])?,
            level: number(&items[1])?,
            held: number(&items[2])?,
        }),
        _ => Err(Failure::Reply),
    }
}
