//! How a client changes or deletes an existing task, and who may.

use contract::event::EventType;
use contract::id::UserId;
use jiff::Timestamp;

use super::task::{NewTask, NewVersion, Priority, Status, Task};

/// New values for some members; `None` leaves a member as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    pub title: Option<String>,
    pub description: Option<String>,
    pub status: Option<Status>,
    pub priority: Option<Priority>,
    pub due_at: Option<Option<Timestamp>>,
    pub tags: Option<Vec<String>>,
    pub assignee_id: Option<Option<UserId>>,
}

/// Why a user who may see a task may not make this change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Only the owner deletes or reassigns.
    #[error("only the owner {0} a task")]
    OnlyTheOwner(&'static str),
}

/// Replaces every member that clients set.
impl From<NewTask> for Change {
    fn from(new: NewTask) -> Self {
        Self {
            title: Some(new.title),
            description: Some(new.description),
            status: Some(new.status),
            priority: Some(new.priority),
            due_at: Some(new.due_at),
            tags: Some(new.tags),
            assignee_id: Some(new.assignee_id),
        }
    }
}

impl Task {
    /// Applies `change`. `None` if it changes nothing: then there is no new version and no event.
    pub fn change(
        &self,
        change: Change,
        actor: &UserId,
        now: Timestamp,
    ) -> Result<Option<NewVersion>, Refusal> {
        let mut task = self.clone();
        let changed = change.apply(&mut task);
        if changed.is_empty() {
            return Ok(None);
        }
        if changed.contains(&"assignee_id") && *actor != self.owner_id {
            return Err(Refusal::OnlyTheOwner("reassigns"));
        }
        task.advance(now);
        let event = task.event(EventType::TaskUpdated, actor, &changed);
        Ok(Some((task, event)))
    }

    /// Deletes the task: returns its last version.
    pub fn delete(&self, actor: &UserId, now: Timestamp) -> Result<NewVersion, Refusal> {
        if *actor != self.owner_id {
            return Err(Refusal::OnlyTheOwner("deletes"));
        }
        let mut task = self.clone();
        task.advance(now);
        let event = task.event(EventType::TaskDeleted, actor, &[]);
        Ok((task, event))
    }
}

impl Change {
    /// Sets the members, and returns the names of those whose values changed.
    fn apply(self, task: &mut Task) -> Vec<&'static str> {
        let mut changed = Vec::new();
        set("title", &mut task.title, self.title, &mut changed);
        set(
            "description",
            &mut task.description,
            self.description,
            &mut changed,
        );
        set("status", &mut task.status, self.status, &mut changed);
        set("priority", &mut task.priority, self.priority, &mut changed);
        set("due_at", &mut task.due_at, self.due_at, &mut changed);
        set("tags", &mut task.tags, self.tags, &mut changed);
        set(
            "assignee_id",
            &mut task.assignee_id,
            self.assignee_id,
            &mut changed,
        );
        changed
    }
}

fn set<T: PartialEq>(
    name: &'static str,
    member: &mut T,
    new: Option<T>,
    changed: &mut Vec<&'static str>,
) {
    if let Some(new) = new
        && *member != new
    {
        *member = new;
        changed.push(name);
    }
}
