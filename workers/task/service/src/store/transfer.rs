//! What an export carries of a task from one store to another. Idempotency keys are not exported.

use contract::event::Envelope;
use serde::{Deserialize, Serialize};

use crate::domain::Task;

/// A task with its history. All of its events were published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskWithHistory {
    pub task: Task,
    pub events: Vec<Envelope>,
}
