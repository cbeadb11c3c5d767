//! The gateway as a process, between a client and upstreams that behave as a test wants.

mod command;
mod gateway;
mod life;
mod proxying;
mod refusals;
mod upstream;
