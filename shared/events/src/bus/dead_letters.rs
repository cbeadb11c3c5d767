//! Dead letters on their way back to the queues they came from.
//!
//! Each message is confirmed in its queue before it leaves the dead letters. A crash in between leaves it
//! in both, and consumers apply an event once. So a redrive may be repeated, run twice at the same time,
//! and run while the platform works.

use async_trait::async_trait;
use contract::event::EventType;

use super::{Bus, BusError, Queue, Topology};

/// Which dead letters to move back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redrive {
    /// Move at most this many.
    pub limit: usize,
    /// Move only those from queues of this type.
    pub event_type: Option<EventType>,
    /// Report what would move, and move nothing.
    pub dry_run: bool,
}

impl Redrive {
    /// The queue that a dead letter goes back to; `None` for one that stays.
    pub fn selects(&self, topology: &Topology, letter: &DeadLetter) -> Option<Queue> {
        let queue = topology.find(&letter.queue)?;
        let wanted = self.event_type.is_none_or(|kind| kind == queue.event_type);
        wanted.then_some(queue)
    }
}

/// A message that no consumer could use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The queue it came from; empty if unknown.
    pub queue: String,
    /// Empty if the message had none.
    pub event_id: String,
    pub reason: String,
}

/// What a redrive did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Redriven {
    /// Moved back, or would have been.
    pub moved: usize,
    /// Left where they were: of another type, from an unknown queue, or equal to one that has just
    /// been moved.
    pub left: usize,
}

/// A bus whose dead letters can be moved back.
#[async_trait]
pub trait DeadLetters: Bus {
    /// Moves dead letters back, oldest first, each at most once, and calls `seen` for each. An error
    /// leaves the rest where it is.
    async fn redrive(
        &self,
        redrive: &Redrive,
        seen: &mut (dyn for<'l> FnMut(&'l DeadLetter) + Send),
    ) -> Result<Redriven, BusError>;
}
