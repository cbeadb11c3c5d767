//! Live streams: who is connected, who is to be woken, and what a stream sends.
//!
//! The store is the truth: a stream asks it for what follows the last sequence number it sent, and
//! only when its client reads, so nothing is buffered. Hints, which consumers send through the bus, only
//! wake streams; one that is lost costs at most the time to the next heartbeat, never an event.

mod hub;
mod stream;

pub use hub::{Hub, MAX_STREAMS_PER_USER, Ticket, hint};
pub use stream::{HEARTBEAT, Stream};
