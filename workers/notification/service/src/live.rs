//! Live streams: which users are connected, which streams to wake, and what a stream sends.
//!
//! The store is the only source: a stream reads the notifications after the last sequence number it
//! sent, and only when its client reads, so nothing is buffered. Hints, which consumers send through
//! the bus, only wake streams. A lost hint delays a notification until the next heartbeat at most; no
//! notification is lost. The HTTP side opens streams, the consumer sends hints.

mod hub;
mod stream;

pub use hub::{Hub, MAX_STREAMS_PER_USER, StreamPermit, hint};
pub use stream::{HEARTBEAT, Stream};
