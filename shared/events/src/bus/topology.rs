//! Which queues there are, and which events each of them takes.
//!
//! Each consumer names its own queues. The composition root of a process collects those of all consumers
//! and hands them to the bus.

use std::sync::Arc;

use contract::event::EventType;

/// The queue that holds what no consumer could use, with the reason in its headers.
pub const DEAD_LETTER: &str = "dead_letter";

/// A durable queue and the events that are routed to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    pub name: &'static str,
    pub event_type: EventType,
}

impl Queue {
    /// The exchange that feeds it.
    pub fn exchange(&self) -> &'static str {
        self.event_type.exchange()
    }
}

/// Every queue of a platform. Each process declares all of them, so that no event is published before
/// its consumer has been started for the first time.
#[derive(Debug, Clone)]
pub struct Topology(Arc<[Queue]>);

impl Topology {
    /// The queues of all consumers together.
    pub fn of(consumers: &[&[Queue]]) -> Self {
        Self(consumers.concat().into())
    }

    pub fn queues(&self) -> &[Queue] {
        &self.0
    }

    pub fn find(&self, name: &str) -> Option<Queue> {
        self.0.iter().copied().find(|queue| queue.name == name)
    }
}
