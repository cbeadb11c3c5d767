//! Tests of the notification worker with real servers.

mod consumer;
mod fixture;
mod http;
mod lifecycle;
mod live;
mod mongo;
mod redrive;
mod store;
