//! A change of a task, and how its notification is recognised.

use std::time::Instant;

use serde_json::Value;

/// A change whose notification must come.
pub(super) struct Change {
    pub(super) kind: &'static str,
    pub(super) task_id: String,
    pub(super) version: u64,
    pub(super) answered: Instant,
}

impl Change {
    pub(super) fn is_told_by(&self, notification: &Value) -> bool {
        notification["type"] == self.kind
            && notification["task_id"] == self.task_id.as_str()
            && notification["task_version"] == self.version
    }
}

/// Whether `object` has every member of `part`, as it is there.
pub(super) fn is_within(part: &Value, object: &Value) -> bool {
    part.as_object().is_some_and(|part| {
        part.iter()
            .all(|(name, value)| object.get(name) == Some(value))
    })
}
