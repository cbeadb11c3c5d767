//! What becomes of tasks whose owner or assignee is gone, and how long such a user is looked for.

use std::time::Duration;

use contract::event::EventType;
use contract::id::UserId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::task::{Changed, Task};

/// How long after an account's end something of it may still be written: its last access token
/// lives ten minutes more, and the body of a request half a minute.
const AFTERMATH: Duration = Duration::from_secs(15 * 60);
const SHORTEST_GAP: Duration = Duration::from_secs(1);
/// Between looks that leave something behind.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// A deleted user, until nothing of it is left and nothing can come any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    pub user_id: UserId,
    /// When this service heard of it: later than it happened, and by our own clock.
    #[serde(with = "contract::time::millis")]
    pub since: Timestamp,
    /// When to look for the user's tasks next.
    #[serde(with = "contract::time::millis")]
    pub due_at: Timestamp,
}

impl Erasure {
    pub fn new(user_id: UserId, now: Timestamp) -> Self {
        Self {
            user_id,
            since: now,
            due_at: now,
        }
    }

    /// When to look again after a look that began at `began`; `None` when it is over. Each gap is as
    /// long as all that went before, so what comes late is there no longer than it was late.
    /// `clean`: the look left nothing of the user behind.
    pub fn next(&self, began: Timestamp, clean: bool) -> Option<Timestamp> {
        let end = self.since + AFTERMATH;
        // Another worker's clock may be behind the one that made `since`.
        let passed = Duration::try_from(began.duration_since(self.since)).unwrap_or_default();
        let gap = passed.max(SHORTEST_GAP);
        match clean {
            true if began >= end => None,
            true => Some((began + gap).min(end)),
            false => Some(began + gap.min(LONGEST_RETRY)),
        }
    }
}

/// A task without a user.
#[derive(Debug, Clone, PartialEq)]
pub enum Erased {
    /// It was the user's: its last version.
    Deleted(Changed),
    /// Somebody else's, with no assignee now.
    Unassigned(Changed),
}

impl Task {
    /// What the end of `user` makes of the task; `None` where it has nothing of that user. The user
    /// is who acted: that is whom the owner or the assignee is told of.
    pub fn erase(&self, user: &UserId, now: Timestamp) -> Option<Erased> {
        let mut task = self.clone();
        task.advance(now);
        if self.owner_id == *user {
            let event = task.event(EventType::TaskDeleted, user, &[]);
            return Some(Erased::Deleted((task, event)));
        }
        task.assignee_id.take_if(|assignee| assignee == user)?;
        let event = task.event(EventType::TaskUpdated, user, &["assignee_id"]);
        Some(Erased::Unassigned((task, event)))
    }
}
