//! A change of a task, and how to recognise its notification.

use std::time::Instant;

use serde_json::Value;

/// A change whose notification must arrive.
pub(super) struct Change {
    pub(super) kind: &'static str,
    pub(super) task_id: String,
    pub(super) version: u64,
    /// When the request was answered.
    pub(super) answered: Instant,
}

impl Change {
    pub(super) fn matches(&self, notification: &Value) -> bool {
        notification["type"] == self.kind
            && notification["task_id"] == self.task_id.as_str()
            && notification["task_version"] == self.version
    }
}

/// Whether `object` has every member of `part`, with the same value.
pub(super) fn is_within(part: &Value, object: &Value) -> bool {
    part.as_object().is_some_and(|part| {
        part.iter()
            .all(|(name, value)| object.get(name) == Some(value))
    })
}
