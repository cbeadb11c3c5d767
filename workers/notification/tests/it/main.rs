//! The notification worker against real servers.

mod consumer;
mod http;
mod lifecycle;
mod live;
mod mongo;
mod stage;
mod store;
