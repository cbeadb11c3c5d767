//! Reads a user's notifications. Each page scans one range of one index. It never writes; the port
//! calls it.

use contract::id::{NotificationId, TaskId, UserId};
use contract::page::PageRequest;
use jiff::Timestamp;
use notifications::domain::{Kind, Notification, NotificationContent};
use notifications::store::{Counter, Cursor, Filter};
use sqlite::rusqlite::types::Value;
use sqlite::rusqlite::{self, Connection, OptionalExtension, Row, params, params_from_iter};
use sqlite::{millis, parsed, time};

/// The SQL statement that reads a page, and its values.
fn page(user: &UserId, filter: Filter, page: &PageRequest<Cursor>) -> (String, Vec<Value>) {
    let text = |text: &str| Value::Text(text.to_owned());
    let (mut conditions, mut values) = (String::from("user_id = ?"), vec![text(user.as_str())]);
    let read = filter.read.map(|read| Value::Integer(read.into()));
    let kind = filter.kind.map(|kind| text(kind.as_str()));
    for (condition, value) in [(" AND read = ?", read), (" AND kind = ?", kind)] {
        if let Some(value) = value {
            conditions.push_str(condition);
            values.push(value);
        }
    }
    if let Some(after) = &page.after {
        conditions.push_str(" AND (created_at, id) < (?, ?)");
        values.extend([Value::Integer(millis(after.created_at)), text(&after.id)]);
    }
    let limit = page.limit + 1;
    let statement = format!(
        "SELECT * FROM notifications WHERE {conditions} ORDER BY created_at DESC, id DESC LIMIT {limit}"
    );
    (statement, values)
}

pub(super) fn list(
    connection: &Connection,
    user: &UserId,
    filter: Filter,
    wanted: &PageRequest<Cursor>,
) -> rusqlite::Result<Vec<Notification>> {
    let (statement, values) = page(user, filter, wanted);
    connection
        .prepare_cached(&statement)?
        .query_map(params_from_iter(values), notification)?
        .collect()
}

pub(super) fn get(
    connection: &Connection,
    user: &UserId,
    id: &NotificationId,
) -> rusqlite::Result<Option<Notification>> {
    connection
        .prepare_cached("SELECT * FROM notifications WHERE id = ?1 AND user_id = ?2")?
        .query_row([id.as_str(), user.as_str()], notification)
        .optional()
}

pub(super) fn since(
    connection: &Connection,
    user: &UserId,
    after: i64,
    limit: usize,
) -> rusqlite::Result<Vec<Notification>> {
    connection
        .prepare_cached(
            "SELECT * FROM notifications WHERE user_id = ?1 AND sequence > ?2
             ORDER BY sequence LIMIT ?3",
        )?
        .query_map(params![user.as_str(), after, limit], notification)?
        .collect()
}

pub(super) fn counter(connection: &Connection, user: &UserId) -> rusqlite::Result<Counter> {
    let found = connection
        .prepare_cached("SELECT * FROM counters WHERE user_id = ?1")?
        .query_row([user.as_str()], |row| {
            Ok(Counter {
                sequence: row.get("sequence")?,
                unread: row.get("unread")?,
                purged: row.get("purged")?,
                deleted: row.get::<_, Option<i64>>("deleted_at")?.is_some(),
            })
        })
        .optional()?;
    Ok(found.unwrap_or_default())
}

pub(super) fn notification(row: &Row<'_>) -> rusqlite::Result<Notification> {
    let created_at: Timestamp = time(row, "created_at")?;
    Ok(Notification {
        content: NotificationContent {
            id: parsed(row, "id", NotificationId::parse)?,
            user_id: parsed(row, "user_id", UserId::parse)?,
            kind: parsed(row, "kind", Kind::parse)?,
            task_id: parsed(row, "task_id", TaskId::parse)?,
            task_version: row.get("task_version")?,
            title: row.get("title")?,
            body: row.get("body")?,
            actor_id: parsed(row, "actor_id", UserId::parse)?,
            created_at,
        },
        sequence: row.get("sequence")?,
        read: row.get("read")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_a_walk_along_an_index_from_where_it_begins() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(include_str!("schema.sql"))
            .unwrap();
        let after = Cursor {
            created_at: Timestamp::UNIX_EPOCH,
            id: "n".to_owned(),
        };
        for after in [None, Some(after)] {
            for read in [None, Some(false)] {
                for kind in [None, Some(Kind::Created)] {
                    let wanted = PageRequest {
                        limit: 20,
                        after: after.clone(),
                    };
                    let (statement, values) = page(&UserId::new(), Filter { read, kind }, &wanted);
                    let plan: Vec<String> = connection
                        .prepare(&format!("EXPLAIN QUERY PLAN {statement}"))
                        .unwrap()
                        .query_map(params_from_iter(values), |row| row.get("detail"))
                        .unwrap()
                        .collect::<Result<_, _>>()
                        .unwrap();
                    assert_eq!(plan.len(), 1, "{statement}: {plan:?}");
                    let equal = 1 + usize::from(read.is_some()) + usize::from(kind.is_some());
                    assert_eq!(
                        plan[0].matches("=?").count(),
                        equal,
                        "{statement}: {plan:?}"
                    );
                    let bounded = plan[0].contains("(created_at,id)<(?,?)");
                    assert_eq!(bounded, after.is_some(), "{statement}: {plan:?}");
                }
            }
        }
    }
}
