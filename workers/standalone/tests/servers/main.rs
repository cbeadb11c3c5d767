//! The platform end to end with real servers on free ports, each test with a database, a virtual host
//! and a Redis of its own: what holds on files, and what must hold while a server is away.

#![cfg(feature = "servers")]
mod backlog;
#[path = "../it/connection.rs"]
mod connection;
#[path = "../it/echo.rs"]
mod echo;
mod ground;
#[path = "../it/world.rs"]
mod world;

#[path = "../it/accounts.rs"]
mod accounts;
#[path = "../it/attachments.rs"]
mod attachments;
#[path = "../it/delivery.rs"]
mod changes;
#[path = "../it/identity.rs"]
mod identity;
#[path = "../it/limits.rs"]
mod quotas;
#[path = "../it/refusals.rs"]
mod refusals;
#[path = "../it/revocation.rs"]
mod revocation;
#[path = "../it/story.rs"]
mod story;
#[path = "../it/streaming.rs"]
mod streaming;

mod delivery;
mod edge;
mod limits;
mod transfer;
