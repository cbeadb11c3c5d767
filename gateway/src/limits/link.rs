//! The way to Redis: one connection, one script, one breaker.
//!
//! All questions share one connection, on which they are pipelined. It is made on the runtime of the
//! first question, and lives there. A question is never repeated when its outcome is unknown.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::{Cmd, RedisError, Script, Value};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::bucket::Shape;
use super::lease::{Answer, LIFETIME_MICROS, Question};
use super::port::RedisCalls;
use super::server::{CONNECT_DEADLINE, Connection, Server};

const SCRIPT: &str = include_str!("token_bucket.lua");

/// Where the buckets are. No `Debug`: the URL may hold a password.
#[derive(Clone)]
pub struct RedisSettings {
    /// `redis://user:password@host:port/database`, or `rediss://`; `redis-sentinel://host,host/master`
    /// and `redis-cluster://host,host`.
    pub url: String,
    /// For one question. A request may wait for one that is under way, and for the next.
    pub deadline: Duration,
    /// Begins every key.
    pub namespace: String,
}

pub(super) struct Link {
    server: Server,
    script: Script,
    pub(super) deadline: Duration,
    current: ArcSwapOption<Connection>,
    first: Mutex<()>,
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

impl Link {
    /// Reads the URL; does no I/O.
    pub(super) fn new(settings: &RedisSettings) -> Result<Self, RedisError> {
        Ok(Self {
            server: Server::of(&settings.url)?,
            script: Script::new(SCRIPT),
            deadline: settings.deadline,
            current: ArcSwapOption::empty(),
            first: Mutex::new(()),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        })
    }

    /// Asks over the current connection, however long it takes.
    pub(super) async fn ask(&self, bucket: &[u8], question: &Question) -> Result<Answer, Failure> {
        let mut link = self.link().await?;
        self.ask_over(&mut link, bucket, question).await
    }

    async fn ask_over(
        &self,
        link: &mut Connection,
        bucket: &[u8],
        question: &Question,
    ) -> Result<Answer, Failure> {
        let by_hash = self.command(bucket, question, false);
        let mut reply = self.send(link, &by_hash).await;
        // A script that was not found was not run, so asking again takes nothing twice.
        if matches!(&reply, Err(Failure::Call(error)) if error.code() == Some("NOSCRIPT")) {
            let whole = self.command(bucket, question, true);
            reply = self.send(link, &whole).await;
        }
        answer(&reply?)
    }

    async fn send(&self, link: &mut Connection, command: &Cmd) -> Result<Value, Failure> {
        let reply = match link.send(command).await {
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

    fn command(&self, bucket: &[u8], question: &Question, whole: bool) -> Cmd {
        let mut command = Cmd::with_capacity(18, 256);
        if whole {
            command.arg("EVAL").arg(SCRIPT);
        } else {
            command.arg("EVALSHA").arg(self.script.get_hash());
        }
        command.arg(1).arg(bucket);
        arguments(question, &mut |argument| {
            command.arg(argument);
        });
        command
    }

    /// The connection there is, or the first one.
    async fn link(&self) -> Result<Connection, RedisError> {
        if let Some(link) = &*self.current.load() {
            return Ok(Connection::clone(link));
        }
        let _one_at_a_time = self.first.lock().await;
        if let Some(link) = &*self.current.load() {
            return Ok(Connection::clone(link));
        }
        let link = self.server.link().await?;
        self.current.store(Some(Arc::new(link.clone())));
        Ok(link)
    }

    /// Makes a fresh connection the current one, once `bucket` can be written over it in time.
    pub(super) async fn connect(&self, bucket: &[u8]) -> Result<(), Failure> {
        let mut link = timeout(CONNECT_DEADLINE, self.server.connect()).await??;
        let shape = Shape {
            refill: 1,
            token: 1,
            capacity: 1,
        };
        // Paying a debt writes.
        let question = Question::settlement(1, shape);
        let asking = self.ask_over(&mut link, bucket, &question);
        timeout(self.deadline, asking).await??;
        self.current.store(Some(Arc::new(link)));
        Ok(())
    }

    pub(super) fn calls(&self) -> RedisCalls {
        RedisCalls {
            answered: self.answered.load(Relaxed),
            failed: self.failed.load(Relaxed),
        }
    }

    /// A question that was given up counts as failed.
    pub(super) fn given_up(&self) {
        self.failed.fetch_add(1, Relaxed);
    }
}

/// The script's arguments, as its head lists them.
pub(super) fn arguments(question: &Question, put: &mut dyn FnMut(&str)) {
    let shape = question.shape;
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
    put(&id(question.settled));
    for number in [
        question.kept,
        question.want,
        question.least,
        question.must,
        question.spent,
        question.parts,
    ] {
        put(digits.format(number));
    }
    put(&id(question.lease));
    for number in [LIFETIME_MICROS, question.debt, question.unknown] {
        put(digits.format(number));
    }
}

pub(super) fn answer(reply: &Value) -> Result<Answer, Failure> {
    let number = |value: &Value| match value {
        Value::Int(number) => u64::try_from(*number).map_err(|_| Failure::Reply),
        _ => Err(Failure::Reply),
    };
    match reply {
        Value::Array(items) if items.len() == 3 => Ok(Answer {
            granted: number(&items[0])?,
            level: number(&items[1])?,
            held: number(&items[2])?,
        }),
        _ => Err(Failure::Reply),
    }
}
