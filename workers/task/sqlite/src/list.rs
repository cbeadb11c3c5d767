//! Lists in SQLite. Each order is one index, or a few runs of one, read one after the other: so a
//! page is read from where it begins, and nothing is sorted.

use contract::page::{Page, PageRequest};
use sqlite::rusqlite::types::Value;
use sqlite::rusqlite::{self, Connection, params_from_iter};
use sqlite::{DEADLINE, millis};
use stores::StoreError;
use tasks::domain::Task;
use tasks::store::list::Run;
use tasks::store::{Filter, Key, Role, Sort};
use tokio::time::Instant;

use super::SqliteTaskStore;
use super::rows::{folded, task};

/// One query: its conditions so far, with their values.
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
        query.demand("m.user_id = ?", [user()]);
        match filter.role {
            Some(Role::Owner) => query.demand("t.owner_id = ?", [user()]),
            Some(Role::Assignee) => query.demand("t.assignee_id = ?", [user()]),
            None => {}
        }
        let status = filter.status.map(|one| text(one.as_str()));
        let priority = filter.priority.map(|one| text(one.as_str()));
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
                query.demand(condition, [value]);
            }
        }
        for word in &filter.words {
            query.demand("instr(t.folded, ?) > 0", [text(&folded(word))]);
        }
        query
    }

    fn demand(&mut self, condition: &str, values: impl IntoIterator<Item = Value>) {
        self.conditions.push(condition.to_owned());
        self.values.extend(values);
    }

    /// The part of a list that is in `run`, behind `after`: the statement and its values.
    fn part(
        mut self,
        run: &Run,
        after: Option<&Key>,
        down: bool,
        limit: usize,
    ) -> (String, Vec<Value>) {
        let (beyond, direction) = if down { ("<", "DESC") } else { (">", "ASC") };
        let order = match run {
            Run::Time(column) => {
                self.demand(&format!("m.{column} IS NOT NULL"), []);
                format!("m.{column} {direction}, m.task_id {direction}")
            }
            Run::NeverDue => {
                self.demand("m.due_at IS NULL", []);
                format!("m.task_id {direction}")
            }
            Run::Priority(priority) => {
                self.demand("m.priority = ?", [Value::Integer(*priority as i64)]);
                format!("m.task_id {direction}")
            }
        };
        if let Some(key) = after {
            let id = text(key.id.as_str());
            match (run, key.value) {
                (Run::Time(column), Some(value)) => self.demand(
                    &format!("(m.{column}, m.task_id) {beyond} (?, ?)"),
                    [Value::Integer(value), id],
                ),
                _ => self.demand(&format!("m.task_id {beyond} ?"), [id]),
            }
        }
        let index = match run {
            Run::Time("created_at") => "members_created",
            Run::Time(_) | Run::NeverDue => "members_due",
            Run::Priority(_) => "members_priority",
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
        page: &PageRequest<Key>,
    ) -> Result<Page<Task>, StoreError> {
        let query = Query::of(filter);
        // What goes beyond the user has no index of its own.
        let turn = match query.conditions.len() {
            1 => None,
            _ => {
                let end = Instant::now() + DEADLINE;
                Some(self.searches.take(&filter.user, end).await?)
            }
        };
        let page = page.clone();
        let limit = page.limit;
        let found = self
            .database
            .read("list tasks", move |connection| {
                // With the query: whoever asked for it may be gone before it ends.
                let _turn = turn;
                find(connection, &query, sort, &page)
            })
            .await?;
        Ok(Page::new(found, limit, |task| Key::of(task, sort)))
    }
}

fn find(
    connection: &Connection,
    query: &Query,
    sort: Sort,
    page: &PageRequest<Key>,
) -> rusqlite::Result<Vec<Task>> {
    let down = sort.is_down();
    let mut after = page.after.as_ref();
    let mut found = Vec::new();
    for run in sort.runs() {
        if after.is_some_and(|key| !run.holds(key)) {
            continue;
        }
        let missing = page.limit + 1 - found.len();
        if missing == 0 {
            break;
        }
        let (statement, values) = query.clone().part(&run, after.take(), down, missing);
        let mut statement = connection.prepare_cached(&statement)?;
        for one in statement.query_map(params_from_iter(values), task)? {
            found.push(one?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use contract::id::{TaskId, UserId};
    use sqlite::outbox;

    use super::*;

    /// How SQLite would go about every kind of page.
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
            let down = sort.is_down();
            for run in sort.runs() {
                let value = match run {
                    Run::Time(_) => Some(5),
                    Run::NeverDue => None,
                    Run::Priority(priority) => Some(priority as i64),
                };
                let id = TaskId::parse("t").unwrap();
                let key = Key { sort, value, id };
                for after in [None, Some(&key)] {
                    let (statement, values) = Query::of(&filter).part(&run, after, down, 21);
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
                    if matches!((&run, after), (Run::Time(_), Some(_))) {
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
