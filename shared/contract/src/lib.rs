//! What gateway and workers agree on: identifiers, refusals, the signed identity, events with their
//! schemas, the list of ended sessions, pages of a list.
//!
//! This crate does no I/O, has nothing async, and depends on no other part of the platform.

pub mod id;
pub mod time;

pub mod identity;
pub mod problem;
pub mod revocation;

pub mod event;
pub mod page;
