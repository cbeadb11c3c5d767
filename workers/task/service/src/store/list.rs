//! Which tasks a list shows, in which order, and where a page of it begins.

use contract::id::{TaskId, UserId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::{Priority, Status, Task, words};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Owner,
    Assignee,
}

/// Which tasks a list shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Owner or assignee, where `role` does not say which.
    pub user: UserId,
    pub role: Option<Role>,
    pub status: Option<Status>,
    pub priority: Option<Priority>,
    pub tag: Option<String>,
    /// Due at this time or later.
    pub due_after: Option<Timestamp>,
    /// Due earlier than this.
    pub due_before: Option<Timestamp>,
    /// Each of them occurs in the title or the description, in upper or lower case.
    pub words: Vec<String>,
}

impl Filter {
    /// All of a user's tasks.
    pub fn of(user: UserId) -> Self {
        Self {
            user,
            role: None,
            status: None,
            priority: None,
            tag: None,
            due_after: None,
            due_before: None,
            words: Vec::new(),
        }
    }
}

words! {
    /// By what a list is ordered; `-` is downwards. Equal ones are ordered by id, the same way. What
    /// is never due comes last either way.
    Sort {
        CreatedUp = "created_at",
        CreatedDown = "-created_at",
        DueUp = "due_at",
        DueDown = "-due_at",
        PriorityUp = "priority",
        PriorityDown = "-priority",
    }
}

impl Sort {
    pub fn is_down(self) -> bool {
        self.as_str().starts_with('-')
    }

    /// The list, cut where the way of ordering changes.
    pub fn runs(self) -> Vec<Run> {
        let priorities = || Priority::ALL.iter().copied().map(Run::Priority);
        match self {
            Self::CreatedUp | Self::CreatedDown => vec![Run::Time("created_at")],
            Self::DueUp | Self::DueDown => vec![Run::Time("due_at"), Run::NeverDue],
            Self::PriorityUp => priorities().collect(),
            Self::PriorityDown => priorities().rev().collect(),
        }
    }
}

/// A stretch of a list that one index has in order.
pub enum Run {
    /// Ordered by this time, where there is one, and by id.
    Time(&'static str),
    /// All the same, ordered by id.
    NeverDue,
    Priority(Priority),
}

impl Run {
    /// Whether the place is in this stretch.
    pub fn holds(&self, key: &Key) -> bool {
        match self {
            Self::Time(_) => key.value.is_some(),
            Self::NeverDue => key.value.is_none(),
            Self::Priority(priority) => key.value == Some(*priority as i64),
        }
    }
}

/// Newest first.
impl Default for Sort {
    fn default() -> Self {
        Self::CreatedDown
    }
}

/// The place of a task in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Another order has other places.
    pub sort: Sort,
    /// What the order goes by: a time in milliseconds, or the rank of a priority. `None`: never due.
    pub value: Option<i64>,
    pub id: TaskId,
}

impl Key {
    pub fn of(task: &Task, sort: Sort) -> Self {
        let value = match sort {
            Sort::CreatedUp | Sort::CreatedDown => Some(task.created_at.as_millisecond()),
            Sort::DueUp | Sort::DueDown => task.due_at.map(Timestamp::as_millisecond),
            Sort::PriorityUp | Sort::PriorityDown => Some(task.priority as i64),
        };
        Self {
            sort,
            value,
            id: task.id.clone(),
        }
    }
}
