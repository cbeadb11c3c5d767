//! What a notification is, who gets one, and what it says.
//!
//! Pure: it reads no clock and does no I/O. The consumer turns every message into an [`Event`] and
//! passes it to the store; the HTTP side only renders what the store holds.

mod event;
mod kind;
mod notification;
mod text;

pub use contract::event::Poison;
pub use event::TaskEvent;
pub use kind::Kind;
pub use notification::{
    Event, MEMORY, Notification, NotificationContent, RETENTION, TaskNotifications,
};

#[cfg(test)]
mod tests;
