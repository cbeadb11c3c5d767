//! The test kit: real servers on free ports in temporary folders, processes to kill, a proxy that
//! breaks networks, and an HTTP client that keeps tests short.
//!
//! What it must never do: skip. A server that cannot be started fails the test with one line that
//! names it and says how to install it. Nor may it leave anything behind: each process it starts is
//! watched by a shell that holds the other end of a pipe, and dies with the test process, even when
//! that one is killed with SIGKILL.
//!
//! The whole kit panics instead of returning errors, because its callers are tests. Servers that
//! all tests of a process share (`shared_redis()` and so on) are handed out by shared reference,
//! and faults need a mutable one: a test that wants to hurt a server starts its own, or puts a
//! [`ChaosProxy`] in front of the shared one.
//!
//! `cargo test` runs the tests of a binary in one process, hence one set of servers for each
//! binary. (A runner with a process for each test works too, and starts a set for each.)

mod port;
mod process;
mod server;

mod redis;

#[cfg(feature = "mongo")]
pub mod lifecycle;
#[cfg(feature = "mongo")]
mod mongodb;
mod names;
mod nginx;
mod rabbitmq;

mod chaos;
mod client;
mod eventually;
mod signed;

pub use self::chaos::ChaosProxy;
pub use self::client::{Client, EventStream, NoEvent, Reply, Request, SendError, SseEvent, raw};
pub use self::eventually::{Outcome, eventually};
#[cfg(feature = "mongo")]
pub use self::mongodb::{MongoDb, mongod, shared_mongodb};
pub use self::names::{setting, unique};
pub use self::nginx::Nginx;
pub use self::port::free_port;
pub use self::process::{Launch, Process, binary};
pub use self::rabbitmq::{RabbitMq, Vhost, shared_rabbitmq};
pub use self::redis::{Redis, shared_redis};
pub use self::signed::{GATEWAY_KEYS, Signed, gateway_keys};
