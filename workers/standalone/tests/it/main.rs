//! End-to-end tests of the platform on files; each test has its own temporary folder. The binary
//! `servers` runs many of these tests on real servers.

mod connection;
mod dependencies;
mod echo;
mod test_platform;

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
