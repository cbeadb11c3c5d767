//! Which tasks a list shows, in which order, and where one of its pages begins.
//!
//! Only the vocabulary of lists, and no I/O: `http` builds a [`Filter`], a [`Sort`] and a [`Cursor`]
//! from the query, and the store adapters turn them into queries.

use contract::id::{TaskId, UserId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::{Priority, Status, Task, string_enum};

/// How a user is related to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Owner,
    Assignee,
}

/// Which tasks a list shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The owner or the assignee, unless `role` says which of the two.
    pub user: UserId,
    pub role: Option<Role>,
    pub status: Option<Status>,
    pub priority: Option<Priority>,
    pub tag: Option<String>,
    /// Only tasks that are due at this time or later.
    pub due_after: Option<Timestamp>,
    /// Only tasks that are due before this time.
    pub due_before: Option<Timestamp>,
    /// Each word must occur in the title or the description, in any case.
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

string_enum! {
    /// The order of a list; `-` means descending. Tasks that are equal in it are ordered by id, in the
    /// same direction. Tasks without a due time come last in both directions.
    Sort {
        CreatedAsc = "created_at",
        CreatedDesc = "-created_at",
        DueAsc = "due_at",
        DueDesc = "-due_at",
        PriorityAsc = "priority",
        PriorityDesc = "-priority",
    }
}

impl Sort {
    pub fn is_descending(self) -> bool {
        self.as_str().starts_with('-')
    }

    /// The parts of the list in their order. Each part is contiguous in one index.
    pub fn segments(self) -> Vec<Segment> {
        let priorities = || Priority::ALL.iter().copied().map(Segment::Priority);
        match self {
            Self::CreatedAsc | Self::CreatedDesc => vec![Segment::Time("created_at")],
            Self::DueAsc | Self::DueDesc => vec![Segment::Time("due_at"), Segment::NeverDue],
            Self::PriorityAsc => priorities().collect(),
            Self::PriorityDesc => priorities().rev().collect(),
        }
    }
}

/// A part of a list that one index holds in order.
pub enum Segment {
    /// Tasks that have this time, ordered by it and then by id.
    Time(&'static str),
    /// Tasks without a due time, ordered by id.
    NeverDue,
    /// Tasks of this priority, ordered by id.
    Priority(Priority),
}

impl Segment {
    /// Whether the cursor points into this segment.
    pub fn holds(&self, cursor: &Cursor) -> bool {
        match self {
            Self::Time(_) => cursor.value.is_some(),
            Self::NeverDue => cursor.value.is_none(),
            Self::Priority(priority) => cursor.value == Some(*priority as i64),
        }
    }
}

/// Newest first.
impl Default for Sort {
    fn default() -> Self {
        Self::CreatedDesc
    }
}

/// The position of a task in a list. Clients hold it in encoded form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// A position is valid in this order only.
    pub sort: Sort,
    /// The value that the list is ordered by: a time in milliseconds since 1970, or the rank of a
    /// priority. `None` for a task without a due time.
    pub value: Option<i64>,
    pub id: TaskId,
}

impl Cursor {
    pub fn of(task: &Task, sort: Sort) -> Self {
        let value = match sort {
            Sort::CreatedAsc | Sort::CreatedDesc => Some(task.created_at.as_millisecond()),
            Sort::DueAsc | Sort::DueDesc => task.due_at.map(Timestamp::as_millisecond),
            Sort::PriorityAsc | Sort::PriorityDesc => Some(task.priority as i64),
        };
        Self {
            sort,
            value,
            id: task.id.clone(),
        }
    }
}
