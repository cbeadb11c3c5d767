//! Lists in MongoDB. Each order is one index, or a few runs of one, read one after the other: so a
//! page is read from where it begins, and nothing is sorted.

use std::time::Duration;

use bson::{DateTime, Document, doc};
use contract::page::{Page, PageRequest};
use futures_util::TryStreamExt;
use mongo::{DEADLINE, run, to_bson};
use mongodb::options::Hint;
use stores::StoreError;
use tasks::domain::Task;
use tasks::store::list::Run;
use tasks::store::{Filter, Key, Role, Sort};
use tokio::time::{Instant, timeout_at};

use super::document::{TaskDocument, projection};
use super::{MongoTaskStore, indexes};

/// What a run holds.
fn condition(run: &Run) -> Document {
    match run {
        Run::Time(field) => doc! {*field: {"$type": "date"}},
        Run::NeverDue => doc! {"due_at": null},
        Run::Priority(priority) => doc! {"priority": priority.as_str()},
    }
}

/// What stands behind a place that the run holds.
fn behind(run: &Run, key: &Key, down: bool) -> Document {
    let (beyond, from) = if down {
        ("$lt", "$lte")
    } else {
        ("$gt", "$gte")
    };
    let id = doc! {"_id": {beyond: key.id.as_str()}};
    match (run, key.value) {
        (Run::Time(field), Some(value)) => {
            let at = DateTime::from_millis(value);
            let mut same = id;
            same.insert(*field, at);
            // The first bound is where the index is entered; the second decides within a moment.
            doc! {*field: {from: at}, "$or": [{*field: {beyond: at}}, same]}
        }
        (Run::Time(_), None) | (Run::NeverDue | Run::Priority(_), _) => id,
    }
}

fn order(run: &Run, down: bool) -> Document {
    let direction = if down { -1 } else { 1 };
    match run {
        Run::Time(field) => doc! {*field: direction, "_id": direction},
        Run::NeverDue | Run::Priority(_) => doc! {"_id": direction},
    }
}

impl MongoTaskStore {
    pub(super) async fn page(
        &self,
        filter: &Filter,
        sort: Sort,
        page: &PageRequest<Key>,
    ) -> Result<Page<Task>, StoreError> {
        const OPERATION: &str = "list tasks";
        let end = Instant::now() + DEADLINE;
        let down = sort.is_down();
        let conditions = conditions(filter);
        let mut queries = Vec::new();
        let mut after = page.after.as_ref();
        for run in sort.runs() {
            let mut all = conditions.clone();
            match after {
                Some(key) if !run.holds(key) => continue,
                Some(key) => all.push(behind(&run, key, down)),
                None => {}
            }
            after = None;
            all.push(condition(&run));
            let query = doc! {"members": filter.user.as_str(), "$and": all};
            queries.push((query, order(&run, down)));
        }
        let turn = match conditions.is_empty() {
            true => None,
            false => Some(self.searches.take(&filter.user, end).await?),
        };
        let (tasks, limit) = (self.tasks.clone_with_type::<TaskDocument>(), page.limit);
        let found = run(OPERATION, async move {
            // With the query: whoever asked for it may be gone before it ends.
            let _turn = turn;
            let mut found: Vec<TaskDocument> = Vec::new();
            for (query, order) in queries {
                let missing = limit + 1 - found.len();
                if missing == 0 {
                    break;
                }
                // Zero would be no limit.
                let left = end.saturating_duration_since(Instant::now());
                let run = tasks
                    .find(query)
                    .sort(order)
                    // Left to choose, the server might walk through everybody's tasks by id.
                    .hint(Hint::Keys(indexes::order(sort)))
                    .projection(projection())
                    .limit(missing as i64)
                    .max_time(left.max(Duration::from_millis(1)));
                found.extend(run.await?.try_collect::<Vec<_>>().await?);
            }
            Ok(found)
        });
        let found = timeout_at(end, found)
            .await
            .map_err(|late| StoreError::unavailable(OPERATION, late))??;
        let found = found.into_iter().map(Task::from).collect();
        Ok(Page::new(found, limit, |task| Key::of(task, sort)))
    }
}

fn conditions(filter: &Filter) -> Vec<Document> {
    let user = filter.user.as_str();
    let role = filter.role.map(|role| match role {
        Role::Owner => doc! {"owner_id": user},
        Role::Assignee => doc! {"assignee_id": user},
    });
    let status = filter.status.map(|one| doc! {"status": one.as_str()});
    let priority = filter.priority.map(|one| doc! {"priority": one.as_str()});
    let tag = filter.tag.as_ref().map(|tag| doc! {"tags": tag});
    let after = filter
        .due_after
        .map(|time| doc! {"due_at": {"$gte": to_bson(time)}});
    let before = filter
        .due_before
        .map(|time| doc! {"due_at": {"$lt": to_bson(time)}});
    let words = filter.words.iter().map(|word| {
        let found = doc! {"$regex": literally(word), "$options": "i"};
        doc! {"$or": [{"title": &found}, {"description": &found}]}
    });
    [role, status, priority, tag, after, before]
        .into_iter()
        .flatten()
        .chain(words)
        .collect()
}

/// A regular expression that means the text itself.
fn literally(text: &str) -> String {
    let mut pattern = String::new();
    for c in text.chars() {
        if c.is_ascii_punctuation() {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}
