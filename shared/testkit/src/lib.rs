//! The test kit: real servers on free ports in temporary folders, processes to kill, a proxy that injects
//! network faults, and an HTTP client that keeps tests short.
//!
//! It must never skip a test: a server that cannot be started fails the test with one line that names the server
//! and how to install it. It must never leave anything behind: each process is watched by a shell that holds the
//! other end of a pipe, and ends with the test process, even if that is killed with SIGKILL.
//!
//! The whole kit panics instead of returning errors, because its callers are tests. Servers that all tests of a
//! process share (`shared_redis()` and so on) are lent by shared reference, and faults need a mutable one. So a
//! test that breaks a server starts its own, or puts a [`ChaosProxy`] in front of the shared one.
//!
//! `cargo test` runs the tests of a binary in one process, so there is one set of servers for each binary. (A
//! runner with a process for each test works too, and starts a set for each.)

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
pub use self::eventually::{ProbeResult, eventually};
#[cfg(feature = "mongo")]
pub use self::mongodb::{MongoDb, mongod, shared_mongodb};
pub use self::names::{setting, unique};
pub use self::nginx::Nginx;
pub use self::port::free_port;
pub use self::process::{Launch, Process, binary};
pub use self::rabbitmq::{RabbitMq, Vhost, shared_rabbitmq};
pub use self::redis::{Redis, shared_redis};
pub use self::signed::{GATEWAY_KEYS, Signed, gateway_keys};
