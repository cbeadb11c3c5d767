//! What the gateway and the workers agree on: identifiers, problem details, the signed identity, events with
//! their schemas, the list of ended sessions, and pages of a list.
//!
//! This crate does no I/O, has no async code, and depends on no other crate of the platform.

pub mod id;
pub mod time;

pub mod identity;
pub mod problem;
pub mod revocation;

pub mod event;
pub mod page;
