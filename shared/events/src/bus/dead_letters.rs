//! Dead letters on their way back to the queues they came from.
//!
//! Each is put into its queue, confirmed, before it leaves the dead letters: a crash in between leaves
//! it in both, and consumers apply an event once. So a redrive may be repeated, run twice at a time,
//! and run while everything works.

use async_trait::async_trait;
use contract::event::EventType;

use super::{Bus, BusError, Queue, Topology};

/// Which dead letters are to go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redrive {
    /// At most so many.
    pub limit: usize,
    /// Only those of queues of this type.
    pub event_type: Option<EventType>,
    /// Only looks; nothing moves.
    pub dry_run: bool,
}

impl Redrive {
    /// The queue that a dead letter goes back to, where it is to go.
    pub fn selects(&self, topology: &Topology, letter: &DeadLetter) -> Option<Queue> {
        let queue = topology.find(&letter.queue)?;
        let wanted = self.event_type.is_none_or(|kind| kind == queue.event_type);
        wanted.then_some(queue)
    }
}

/// A message that nobody could use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where it came from; empty where nobody knows.
    pub queue: String,
    /// Empty where it had none.
    pub event_id: String,
    pub reason: String,
}

/// What a redrive did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Redriven {
    /// Went back, or would have.
    pub moved: usize,
    /// Looked at and left: of another type, from a queue that is not known here, or the same as one
    /// that has just gone.
    pub left: usize,
}

/// A bus whose dead letters can be brought back.
#[async_trait]
pub trait DeadLetters: Bus {
    /// Brings back what is there, oldest first, each no more than once. `seen` hears of each that goes. An error leaves
    /// the rest where it is.
    async fn redrive(
        &self,
        redrive: &Redrive,
        seen: &mut (dyn for<'l> FnMut(&'l DeadLetter) + Send),
    ) -> Result<Redriven, BusError>;
}
