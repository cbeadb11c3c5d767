//! Lists in MongoDB.
//!
//! Each segment of an order is contiguous in one index, and the segments are read one after the other.
//! So a page is read from where it begins; the server must never sort or skip. Searches also need a
//! permit, because their filters have no index.

use std::time::Duration;

use bson::{DateTime, Document, doc};
use contract::page::{Page, PageRequest};
use futures_util::TryStreamExt;
use mongo::{DEADLINE, run, to_bson};
use mongodb::options::Hint;
use stores::StoreError;
use tasks::domain::Task;
use tasks::store::list::Segment;
use tasks::store::{Cursor, Filter, Role, Sort};
use tokio::time::{Instant, timeout_at};

use super::document::{TaskDocument, projection};
use super::{MongoTaskStore, indexes};

/// Selects the tasks of a segment.
fn condition(segment: &Segment) -> Document {
    match segment {
        Segment::Time(field) => doc! {*field: {"$type": "date"}},
        Segment::NeverDue => doc! {"due_at": null},
        Segment::Priority(priority) => doc! {"priority": priority.as_str()},
    }
}

/// Selects the tasks of a segment that come after a cursor into it.
fn after_cursor(segment: &Segment, cursor: &Cursor, descending: bool) -> Document {
    let (beyond, from) = if descending {
        ("$lt", "$lte")
    } else {
        ("$gt", "$gte")
    };
    let id = doc! {"_id": {beyond: cursor.id.as_str()}};
    match (segment, cursor.value) {
        (Segment::Time(field), Some(value)) => {
            let at = DateTime::from_millis(value);
            let mut same = id;
            same.insert(*field, at);
            // The first bound is where the index scan begins; the second one decides between tasks of the
            // same time.
            doc! {*field: {from: at}, "$or": [{*field: {beyond: at}}, same]}
        }
        (Segment::Time(_), None) | (Segment::NeverDue | Segment::Priority(_), _) => id,
    }
}

fn order(segment: &Segment, descending: bool) -> Document {
    let direction = if descending { -1 } else { 1 };
    match segment {
        Segment::Time(field) => doc! {*field: direction, "_id": direction},
        Segment::NeverDue | Segment::Priority(_) => doc! {"_id": direction},
    }
}

impl MongoTaskStore {
    pub(super) async fn page(
        &self,
        filter: &Filter,
        sort: Sort,
        page: &PageRequest<Cursor>,
    ) -> Result<Page<Task>, StoreError> {
        const OPERATION: &str = "list tasks";
        let end = Instant::now() + DEADLINE;
        let descending = sort.is_descending();
        let conditions = conditions(filter);
        let mut queries = Vec::new();
        let mut after = page.after.as_ref();
        for segment in sort.segments() {
            let mut all = conditions.clone();
            match after {
                Some(cursor) if !segment.holds(cursor) => continue,
                Some(cursor) => all.push(after_cursor(&segment, cursor, descending)),
                None => {}
            }
            after = None;
            all.push(condition(&segment));
            let query = doc! {"members": filter.user.as_str(), "$and": all};
            queries.push((query, order(&segment, descending)));
        }
        let permit = match conditions.is_empty() {
            true => None,
            false => Some(self.searches.acquire(&filter.user, end).await?),
        };
        let (tasks, limit) = (self.tasks.clone_with_type::<TaskDocument>(), page.limit);
        let found = run(OPERATION, async move {
            // The query holds the permit: the caller may go away before it ends.
            let _permit = permit;
            let mut found: Vec<TaskDocument> = Vec::new();
            for (query, order) in queries {
                let missing = limit + 1 - found.len();
                if missing == 0 {
                    break;
                }
                // Zero would mean no limit.
                let left = end.saturating_duration_since(Instant::now());
                let query = tasks
                    .find(query)
                    .sort(order)
                    // Without a hint, the server might scan the tasks of all users by id.
                    .hint(Hint::Keys(indexes::order(sort)))
                    .projection(projection())
                    .limit(missing as i64)
                    .max_time(left.max(Duration::from_millis(1)));
                found.extend(query.await?.try_collect::<Vec<_>>().await?);
            }
            Ok(found)
        });
        let found = timeout_at(end, found)
            .await
            .map_err(|late| StoreError::unavailable(OPERATION, late))??;
        let found = found.into_iter().map(Task::from).collect();
        Ok(Page::new(found, limit, |task| Cursor::of(task, sort)))
    }
}

fn conditions(filter: &Filter) -> Vec<Document> {
    let user = filter.user.as_str();
    let role = filter.role.map(|role| match role {
        Role::Owner => doc! {"owner_id": user},
        Role::Assignee => doc! {"assignee_id": user},
    });
    let status = filter.status.map(|status| doc! {"status": status.as_str()});
    let priority = filter
        .priority
        .map(|priority| doc! {"priority": priority.as_str()});
    let tag = filter.tag.as_ref().map(|tag| doc! {"tags": tag});
    let after = filter
        .due_after
        .map(|time| doc! {"due_at": {"$gte": to_bson(time)}});
    let before = filter
        .due_before
        .map(|time| doc! {"due_at": {"$lt": to_bson(time)}});
    let words = filter.words.iter().map(|word| {
        let found = doc! {"$regex": escape_regex(word), "$options": "i"};
        doc! {"$or": [{"title": &found}, {"description": &found}]}
    });
    [role, status, priority, tag, after, before]
        .into_iter()
        .flatten()
        .chain(words)
        .collect()
}

/// A regular expression that matches the text literally.
fn escape_regex(text: &str) -> String {
    let mut pattern = String::new();
    for c in text.chars() {
        if c.is_ascii_punctuation() {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}
