//! The version of the documents, the indexes they need, and conditions on them.

use std::time::Duration;

use bson::{Bson, Document, doc};
use mongodb::IndexModel;
use mongodb::options::IndexOptions;

/// The version of the documents' layout. Documents of version 1 are read as well.
pub(crate) const SCHEMA: i32 = 2;

/// Documents of version 1 do not name their generation; it is the first one.
pub(crate) fn in_generation(generation: u64) -> Document {
    match generation {
        0 => doc! {"$in": [0_i64, Bson::Null]},
        later => doc! {"$in": [later.cast_signed()]},
    }
}

pub(crate) fn index(keys: Document) -> IndexModel {
    IndexModel::builder().keys(keys).build()
}

pub(crate) fn unique(field: &str) -> IndexModel {
    let options = IndexOptions::builder().unique(true).build();
    IndexModel::builder()
        .keys(doc! {field: 1})
        .options(options)
        .build()
}

/// Of the few documents that match.
pub(crate) fn partial(keys: Document, filter: Document) -> IndexModel {
    let options = IndexOptions::builder()
        .partial_filter_expression(filter)
        .build();
    IndexModel::builder().keys(keys).options(options).build()
}

/// MongoDB deletes each document once the time in this field has passed.
pub(crate) fn expiry(field: &str) -> IndexModel {
    let options = IndexOptions::builder().expire_after(Duration::ZERO).build();
    IndexModel::builder()
        .keys(doc! {field: 1})
        .options(options)
        .build()
}
