//! Lists in SQLite.
//!
//! Each segment of an order is contiguous in one index, and the segments are read one after the other.
//! So a page is read from where it begins; a query must never sort or skip. Searches also need a
//! permit, because their filters have no index.

use contract::page::{Page, PageRequest};
use sqlite::rusqlite::types::Value;
use sqlite::rusqlite::{self, Connection, params_from_iter};
use sqlite::{DEADLINE, millis};
use stores::StoreError;
use tasks::domain::Task;
use tasks::store::list::Segment;
use tasks::store::{Cursor, Filter, Role, Sort};
use tokio::time::Instant;

use super::SqliteTaskStore;
use super::rows::{folded, task};

/// A query under construction: its conditions so far, with their values.
#[derive(Clone)]
struct Query {
    conditions: Vec<String>,
    values: Vec<Value>,
}

impl Query {
    fn of(filter: &Filter) -> Self {
        let mut query = Self {
            conditions: Vec::new(),
            values: Vec::new(),
        };
        let user = || text(filter.user.as_str());
        query.require("m.user_id = ?", [user()]);
        match filter.role {
            Some(Role::Owner) => query.require("t.owner_id = ?", [user()]),
            Some(Role::Assignee) => query.require("t.assignee_id = ?", [user()]),
            None => {}
        }
        let status = filter.status.map(|word| text(word.as_str()));
        let priority = filter.priority.map(|word| text(word.as_str()));
        let due_after = filter.due_after.map(|time| Value::Integer(millis(time)));
        let due_before = filter.due_before.map(|time| Value::Integer(millis(time)));
        let tag = filter.tag.as_deref().map(text);
        for (condition, value) in [
            ("t.status = ?", status),
            ("t.priority = ?", priority),
            ("t.due_at >= ?", due_after),
            ("t.due_at < ?", due_before),
            (
                "EXISTS (SELECT 1 FROM json_each(t.tags) WHERE value = ?)",
                tag,
            ),
        ] {
            if let Some(value) = value {
                query.require(condition, [value]);
            }
        }
        for word in &filter.words {
            query.require("instr(t.folded, ?) > 0", [text(&folded(word))]);
        }
        query
    }

    fn require(&mut self, condition: &str, values: impl IntoIterator<Item = Value>) {
        self.conditions.push(condition.to_owned());
        self.values.extend(values);
    }

    /// The statement that reads a segment of the list after a cursor, and its values.
    fn statement(
        mut self,
        segment: &Segment,
        after: Option<&Cursor>,
        descending: bool,
        limit: usize,
    ) -> (String, Vec<Value>) {
        let (beyond, direction) = if descending {
            ("<", "DESC")
        } else {
            (">", "ASC")
        };
        let order = match segment {
            Segment::Time(column) => {
                self.require(&format!("m.{column} IS NOT NULL"), []);
                format!("m.{column} {direction}, m.task_id {direction}")
            }
            Segment::NeverDue => {
                self.require("m.due_at IS NULL", []);
                format!("m.task_id {direction}")
            }
            Segment::Priority(priority) => {
                self.require("m.priority = ?", [Value::Integer(*priority as i64)]);
                format!("m.task_id {direction}")
            }
        };
        if let Some(cursor) = after {
            let id = text(cursor.id.as_str());
            match (segment, cursor.value) {
                (Segment::Time(column), Some(value)) => self.require(
                    &format!("(m.{column}, m.task_id) {beyond} (?, ?)"),
                    [Value::Integer(value), id],
                ),
                _ => self.require(&format!("m.task_id {beyond} ?"), [id]),
            }
        }
        let index = match segment {
            Segment::Time("created_at") => "members_created",
            Segment::Time(_) | Segment::NeverDue => "members_due",
            Segment::Priority(_) => "members_priority",
        };
        let conditions = self.conditions.join(" AND ");
        let statement = format!(
            "SELECT t.* FROM members AS m INDEXED BY {index} CROSS JOIN tasks AS t ON t.id = m.task_id
             WHERE {conditions} ORDER BY {order} LIMIT {limit}"
        );
        (statement, self.values)
    }
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

impl SqliteTaskStore {
    pub(super) async fn page(
        &self,
        filter: &Filter,
        sort: Sort,
        page: &PageRequest<Cursor>,
    ) -> Result<Page<Task>, StoreError> {
        let query = Query::of(filter);
        // A filter beyond the user has no index.
        let permit = match query.conditions.len() {
            1 => None,
            _ => {
                let end = Instant::now() + DEADLINE;
                Some(self.searches.acquire(&filter.user, end).await?)
            }
        };
        let page = page.clone();
        let limit = page.limit;
        let found = self
            .database
            .read("list tasks", move |connection| {
                // The query holds the permit: the caller may go away before it ends.
                let _permit = permit;
                find(connection, &query, sort, &page)
            })
            .await?;
        Ok(Page::new(found, limit, |task| Cursor::of(task, sort)))
    }
}

fn find(
    connection: &Connection,
    query: &Query,
    sort: Sort,
    page: &PageRequest<Cursor>,
) -> rusqlite::Result<Vec<Task>> {
    let descending = sort.is_descending();
    let mut after = page.after.as_ref();
    let mut found = Vec::new();
    for segment in sort.segments() {
        if after.is_some_and(|cursor| !segment.holds(cursor)) {
            continue;
        }
        let missing = page.limit + 1 - found.len();
        if missing == 0 {
            break;
        }
        let (statement, values) =
            query
                .clone()
                .statement(&segment, after.take(), descending, missing);
        let mut statement = connection.prepare_cached(&statement)?;
        for task in statement.query_map(params_from_iter(values), task)? {
            found.push(task?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use contract::id::{TaskId, UserId};
    use sqlite::outbox;

    use super::*;

    /// Reads SQLite's plan for every kind of page.
    #[test]
    fn every_page_is_read_from_where_it_begins_and_nothing_is_sorted() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(outbox::SCHEMA).unwrap();
        connection
            .execute_batch(include_str!("schema.sql"))
            .unwrap();
        let user = UserId::parse("ann").unwrap();
        let mut searching = Filter::of(user.clone());
        searching.words = vec!["a".to_owned()];
        searching.tag = Some("b".to_owned());
        for (filter, sort) in [Filter::of(user), searching]
            .into_iter()
            .flat_map(|filter| Sort::ALL.iter().map(move |sort| (filter.clone(), *sort)))
        {
            let descending = sort.is_descending();
            for segment in sort.segments() {
                let value = match segment {
                    Segment::Time(_) => Some(5),
                    Segment::NeverDue => None,
                    Segment::Priority(priority) => Some(priority as i64),
                };
                let id = TaskId::parse("t").unwrap();
                let cursor = Cursor { sort, value, id };
                for after in [None, Some(&cursor)] {
                    let (statement, values) =
                        Query::of(&filter).statement(&segment, after, descending, 21);
                    let plan: Vec<String> = connection
                        .prepare(&format!("EXPLAIN QUERY PLAN {statement}"))
                        .unwrap()
                        .query_map(params_from_iter(values), |row| row.get("detail"))
                        .unwrap()
                        .collect::<Result<_, _>>()
                        .unwrap();
                    let members = plan.iter().find(|step| step.contains(" m ")).unwrap();
                    assert!(
                        members.starts_with("SEARCH m USING"),
                        "{statement}\n{plan:?}"
                    );
                    if matches!((&segment, after), (Segment::Time(_), Some(_))) {
                        assert!(
                            members.contains("(user_id=? AND (")
                                || members.contains("<?")
                                || members.contains(">?"),
                            "{plan:?}"
                        );
                    }
                    assert!(
                        !plan.iter().any(|step| step.contains("TEMP B-TREE")),
                        "{plan:?}"
                    );
                }
            }
        }
    }
}
