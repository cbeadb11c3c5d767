//! The indexes of all collections.

use bson::{Document, doc};
use mongodb::IndexModel;
use mongodb::options::IndexOptions;
use tasks::store::Sort;

/// For the lists.
/// `members` are owner and assignee; what is deleted has none.
pub(super) fn order(sort: Sort) -> Document {
    match sort {
        Sort::CreatedUp | Sort::CreatedDown => doc! {"members": 1, "created_at": -1, "_id": -1},
        Sort::DueUp | Sort::DueDown => doc! {"members": 1, "due_at": 1, "_id": 1},
        Sort::PriorityUp | Sort::PriorityDown => doc! {"members": 1, "priority": 1, "_id": 1},
    }
}

pub(super) fn lists() -> [IndexModel; 3] {
    [Sort::CreatedUp, Sort::DueUp, Sort::PriorityUp]
        .map(|sort| IndexModel::builder().keys(order(sort)).build())
}

/// For the keys of requests: `key` is unique for each owner; what is expired is found by its time.
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

/// For erasures that are due.
pub(super) fn erasures() -> IndexModel {
    IndexModel::builder().keys(doc! {"due_at": 1}).build()
}
