//! End-to-end tests of the platform with real servers on free ports; each test has its own database,
//! virtual host and Redis. Many tests also run on files; the others are about servers that fail.

#![cfg(feature = "servers")]
mod backlog;
#[path = "../it/connection.rs"]
mod connection;
mod dependencies;
#[path = "../it/echo.rs"]
mod echo;
#[path = "../it/test_platform.rs"]
mod test_platform;

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
