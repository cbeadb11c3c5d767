//! Events as CloudEvents 1.0 (JSON format): facts about tasks and users, in the past tense.
//!
//! An envelope is made once, by the domain, and stored with its change; the relay publishes what is
//! stored. `schemas/` holds the JSON Schema of each type's `data`.

mod envelope;
mod user;

pub use envelope::{Envelope, EventType, JsonContent, Poison, SpecVersion};
pub use user::UserDeleted;
