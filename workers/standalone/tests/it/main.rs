//! The platform end to end, on files in a temporary folder: each test has its own. The same facts hold
//! on real servers: see the binary `servers`.

mod connection;
mod echo;
mod ground;
mod world;

mod accounts;
mod attachments;
mod delivery;
mod documents;
mod identity;
mod limits;
mod process;
mod refusals;
mod revocation;
mod story;
mod streaming;
