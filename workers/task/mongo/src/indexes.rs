//! The indexes of the tasks and of the erasures. The files have their own, in [`crate::files`].
//!
//! [`MongoTaskStore`](crate::MongoTaskStore) creates them before its first write, and lists name one as
//! a hint.

use bson::{Document, doc};
use mongodb::IndexModel;
use mongodb::options::IndexOptions;
use tasks::store::Sort;

/// The index that lists in this order use. `members` are the owner and the assignee; a deleted task
/// has none.
pub(super) fn order(sort: Sort) -> Document {
    match sort {
        Sort::CreatedAsc | Sort::CreatedDesc => doc! {"members": 1, "created_at": -1, "_id": -1},
        Sort::DueAsc | Sort::DueDesc => doc! {"members": 1, "due_at": 1, "_id": 1},
        Sort::PriorityAsc | Sort::PriorityDesc => doc! {"members": 1, "priority": 1, "_id": 1},
    }
}

/// For lists.
pub(super) fn lists() -> [IndexModel; 3] {
    [Sort::CreatedAsc, Sort::DueAsc, Sort::PriorityAsc]
        .map(|sort| IndexModel::builder().keys(order(sort)).build())
}

/// For idempotency keys: a key is unique per owner, and expired keys are found by their time.
pub(super) fn keys() -> [IndexModel; 2] {
    let unique = IndexOptions::builder()
        .unique(true)
        .partial_filter_expression(doc! {"idempotency.key": {"$exists": true}})
        .build();
    let sparse = IndexOptions::builder().sparse(true).build();
    let index = |keys, options| IndexModel::builder().keys(keys).options(options).build();
    [
        index(doc! {"owner_id": 1, "idempotency.key": 1}, unique),
        index(doc! {"idempotency.at": 1}, sparse),
    ]
}

/// For finding erasures that are due.
pub(super) fn erasures() -> IndexModel {
    IndexModel::builder().keys(doc! {"due_at": 1}).build()
}
