//! What a notification is, who gets one, and what it says.
//!
//! Pure: no clock, no I/O. The consumer makes an [`Event`] of every message and hands it to the store;
//! the HTTP side only renders what the store holds.

mod event;
mod kind;
mod notification;
mod text;

pub use contract::event::Poison;
pub use event::TaskEvent;
pub use kind::Kind;
pub use notification::{Entry, Event, MEMORY, Notice, Notification, RETENTION};

#[cfg(test)]
mod tests;
