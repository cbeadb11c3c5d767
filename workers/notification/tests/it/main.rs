//! The notification worker against real servers.

mod consumer;
mod http;
mod live;
mod stage;
mod store;
