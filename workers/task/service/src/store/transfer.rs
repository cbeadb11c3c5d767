//! Tasks on their way from one store to another. Keys of requests stay behind.

use contract::event::Envelope;
use serde::{Deserialize, Serialize};

use crate::domain::Task;

/// A task with its history, all of it published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    pub task: Task,
    pub events: Vec<Envelope>,
}
