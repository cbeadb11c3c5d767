//! The texts of a notification: English, one line each, and clear without the task at hand.
//! Called when an event becomes notifications; never when they are read.

use contract::id::UserId;

use super::event::TaskEvent;
use super::kind::Kind;

/// A title must fit on one line of a screen.
const MAX_TITLE_CHARS: usize = 200;
/// Nobody reads a longer list of changes.
const MAX_CHANGES: usize = 8;

pub(super) fn title(event: &TaskEvent) -> String {
    let happened = match event.kind {
        Kind::Created => "New task",
        Kind::Updated => "Task updated",
        Kind::Deleted => "Task deleted",
    };
    format!("{happened}: {}", cut(&event.title, MAX_TITLE_CHARS))
}

/// What the title leaves out, written for `reader`.
pub(super) fn body(event: &TaskEvent, reader: &UserId) -> String {
    let assigned = event.assignee_id.as_ref() == Some(reader);
    match event.kind {
        Kind::Created if assigned && event.owner_id == *reader => {
            "You created this task for yourself.".to_owned()
        }
        Kind::Created if assigned => "It was assigned to you.".to_owned(),
        Kind::Created => "It is yours.".to_owned(),
        Kind::Updated => updated(event, assigned),
        Kind::Deleted => "It no longer exists.".to_owned(),
    }
}

fn updated(event: &TaskEvent, assigned: bool) -> String {
    let mut changes: Vec<String> = event
        .changed
        .iter()
        .take(MAX_CHANGES)
        .map(|member| change(event, member, assigned))
        .collect();
    match event.changed.len().saturating_sub(MAX_CHANGES) {
        0 => {}
        more => changes.push(format!("{more} more")),
    }
    match changes.is_empty() {
        true => "It was changed.".to_owned(),
        false => format!("Changed: {}.", changes.join(", ")),
    }
}

fn change(event: &TaskEvent, member: &str, assigned: bool) -> String {
    let now = |value: &Option<String>| value.as_ref().map(|value| words(value));
    let (name, value) = match member {
        "status" => ("status", now(&event.status)),
        "priority" => ("priority", now(&event.priority)),
        "assignee_id" if assigned => ("assignee", Some("you".to_owned())),
        "assignee_id" if event.assignee_id.is_none() => ("assignee", Some("nobody".to_owned())),
        "assignee_id" => ("assignee", None),
        "due_at" => ("due date", None),
        other => return words(other),
    };
    match value {
        Some(value) => format!("{name} (now {value})"),
        None => name.to_owned(),
    }
}

/// `in_progress` becomes `in progress`.
fn words(name: &str) -> String {
    cut(&name.replace('_', " "), 40)
}

fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
