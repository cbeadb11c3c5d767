//! Parses tasks, changes and lists from what clients send.
//!
//! Every parser reports everything that is wrong at once, and touches no store. The handlers call it.

use contract::id::UserId;
use contract::page::PageRequest;
use contract::problem::Problem;
use serde_json::Value;
use web::json::{list as json_list, text, text_of, time};
use web::{Object, Patch, Query};

use crate::domain::{
    Change, MAX_DESCRIPTION_CHARS, MAX_TAG_CHARS, MAX_TAGS, MAX_TITLE_CHARS, NewTask, Priority,
    Status,
};
use crate::store::{Cursor, Filter, Role, Sort};

const MAX_SEARCH_CHARS: usize = 100;

/// A client's request for a page of a list.
#[derive(Debug)]
pub(super) struct ListRequest {
    pub(super) filter: Filter,
    pub(super) sort: Sort,
    pub(super) page: PageRequest<Cursor>,
}

pub(super) fn new_task(mut body: Object) -> Result<NewTask, Problem> {
    let title = body.required("title", title);
    let description = body.optional("description", description);
    let status = body.optional("status", status);
    let priority = body.optional("priority", priority);
    let due_at = body.optional("due_at", time);
    let tags = body.optional("tags", tags);
    let assignee_id = body.optional("assignee_id", user_id);
    body.finish(|| {
        Some(NewTask {
            title: title?,
            description: description.unwrap_or_default(),
            status: status.unwrap_or(Status::Todo),
            priority: priority.unwrap_or(Priority::Normal),
            due_at,
            tags: tags.unwrap_or_default(),
            assignee_id,
        })
    })
}

/// Parses a merge patch (RFC 7396): `null` removes a member that a task can be without.
pub(super) fn change(mut body: Object) -> Result<Change, Problem> {
    let title = irremovable(&mut body, "title", title);
    let status = irremovable(&mut body, "status", status);
    let priority = irremovable(&mut body, "priority", priority);
    let description = removable(body.patch("description", description));
    let due_at = removable(body.patch("due_at", |value| time(value).map(Some)));
    let tags = removable(body.patch("tags", tags));
    let assignee_id = removable(body.patch("assignee_id", |value| user_id(value).map(Some)));
    body.finish(|| {
        Some(Change {
            title,
            description,
            status,
            priority,
            due_at,
            tags,
            assignee_id,
        })
    })
}

pub(super) fn list(mut query: Query, user: &UserId) -> Result<ListRequest, Problem> {
    let page: PageRequest<Cursor> = query.page();
    let sort = query.optional("sort", Sort::parse);
    let filter = Filter {
        user: user.clone(),
        role: query.optional("role", |word| match word {
            "owner" => Ok(Role::Owner),
            "assignee" => Ok(Role::Assignee),
            _ => Err("must be owner or assignee".to_owned()),
        }),
        status: query.optional("status", Status::parse),
        priority: query.optional("priority", Priority::parse),
        tag: query.optional("tag", |text| tag(Value::from(text))),
        due_after: query.optional("due_after", |text| time(Value::from(text))),
        due_before: query.optional("due_before", |text| time(Value::from(text))),
        words: query.optional("q", words).unwrap_or_default(),
    };
    let sort = sort.unwrap_or_default();
    if page
        .after
        .as_ref()
        .is_some_and(|cursor| cursor.sort != sort)
    {
        query.refuse("cursor", "is of a list with another `sort`");
    }
    query.finish()?;
    Ok(ListRequest { filter, sort, page })
}

/// The words of a search. Each is searched for literally: no character is special.
fn words(text: &str) -> Result<Vec<String>, String> {
    let text = text_of(1, MAX_SEARCH_CHARS)(Value::from(text))?;
    let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
    match words.is_empty() {
        true => Err("must have a word".to_owned()),
        false => Ok(words),
    }
}

/// Reads a member that a task always has, so that `null` is refused.
fn irremovable<T>(
    body: &mut Object,
    name: &str,
    read: impl FnOnce(Value) -> Result<T, String>,
) -> Option<T> {
    match body.patch(name, read) {
        Patch::Keep => None,
        Patch::Set(value) => Some(value),
        Patch::Clear => {
            body.refuse(name, "cannot be removed");
            None
        }
    }
}

/// Reads a member that a task can be without, so that `null` removes it.
fn removable<T: Default>(patch: Patch<T>) -> Option<T> {
    match patch {
        Patch::Keep => None,
        Patch::Clear => Some(T::default()),
        Patch::Set(value) => Some(value),
    }
}

fn title(value: Value) -> Result<String, String> {
    let title = text_of(1, MAX_TITLE_CHARS)(value)?;
    match title.trim().is_empty() {
        true => Err("must not be blank".to_owned()),
        false => Ok(title),
    }
}

fn description(value: Value) -> Result<String, String> {
    text_of(0, MAX_DESCRIPTION_CHARS)(value)
}

fn status(value: Value) -> Result<Status, String> {
    Status::parse(&text(value)?)
}

fn priority(value: Value) -> Result<Priority, String> {
    Priority::parse(&text(value)?)
}

/// Tags without duplicates.
fn tags(value: Value) -> Result<Vec<String>, String> {
    let mut tags = Vec::new();
    for tag in json_list(MAX_TAGS, tag)(value)? {
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

fn tag(value: Value) -> Result<String, String> {
    text_of(1, MAX_TAG_CHARS)(value)
}

/// A user id. Nobody checks whether that user exists.
fn user_id(value: Value) -> Result<UserId, String> {
    UserId::parse(&text(value)?).ok_or_else(|| "must be a user id".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Object {
        Object::new(value).unwrap()
    }

    fn pointers(problem: Problem) -> Vec<String> {
        let mut pointers: Vec<_> = problem.errors().iter().map(|e| e.pointer.clone()).collect();
        pointers.sort();
        pointers
    }

    #[test]
    fn a_title_is_enough() {
        let new = new_task(object(json!({"title": "x", "due_at": null}))).unwrap();
        assert_eq!((new.status, new.priority), (Status::Todo, Priority::Normal));
        assert_eq!(
            (new.description.as_str(), new.tags.len(), new.due_at),
            ("", 0, None)
        );
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let body = json!({
            "title": "x".repeat(201), "description": "x".repeat(10_001), "status": "new",
            "priority": 1, "due_at": "tomorrow", "tags": [""], "assignee_id": "a b", "owner_id": "me",
        });
        let wanted = [
            "/assignee_id",
            "/description",
            "/due_at",
            "/owner_id",
            "/priority",
            "/status",
            "/tags",
            "/title",
        ];
        assert_eq!(
            pointers(new_task(object(body.clone())).unwrap_err()),
            wanted
        );
        assert_eq!(pointers(change(object(body)).unwrap_err()), wanted);
    }

    #[test]
    fn limits_count_characters_and_include_their_ends() {
        let body = json!({
            "title": "é".repeat(200), "description": "é".repeat(10_000),
            "tags": (0..20).map(|n| format!("{n:0>50}")).collect::<Vec<_>>(),
        });
        assert!(new_task(object(body)).is_ok());
        for wrong in [
            json!({"title": " "}),
            json!({"title": ""}),
            json!({"title": "x", "tags": vec!["a"; 21]}),
        ] {
            assert!(new_task(object(wrong)).is_err());
        }
        let twice = new_task(object(json!({"title": "x", "tags": ["a", "b", "a"]}))).unwrap();
        assert_eq!(twice.tags, ["a", "b"]);
    }

    #[test]
    fn null_removes_only_what_a_task_can_be_without() {
        let none = json!({"description": null, "due_at": null, "tags": null, "assignee_id": null});
        let removed = change(object(none)).unwrap();
        assert_eq!(removed.description.as_deref(), Some(""));
        assert_eq!(
            (removed.due_at, removed.assignee_id),
            (Some(None), Some(None))
        );
        let irremovable = json!({"title": null, "status": null, "priority": null});
        assert_eq!(
            pointers(change(object(irremovable)).unwrap_err()),
            ["/priority", "/status", "/title"]
        );
        assert_eq!(change(object(json!({}))).unwrap(), Change::default());
    }
}
