//! The notification worker against real servers.

mod consumer;
mod http;
mod lifecycle;
mod live;
mod mongo;
mod redrive;
mod stage;
mod store;
