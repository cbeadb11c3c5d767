//! The version of the documents, builders for indexes, and conditions that all collections share.

use std::time::Duration;

use bson::spec::BinarySubtype;
use bson::{Bson, Document, doc};
use mongodb::IndexModel;
use mongodb::options::IndexOptions;

/// The version of the documents' layout. Documents of version 1 can be read, too.
pub(super) const SCHEMA: i32 = 2;

/// Matches `generation`. Documents of version 1 lack the member, which means generation 0.
pub(super) fn in_generation(generation: u64) -> Document {
    match generation {
        0 => doc! {"$in": [0_i64, Bson::Null]},
        later => doc! {"$in": [later.cast_signed()]},
    }
}

pub(super) fn index(keys: Document) -> IndexModel {
    IndexModel::builder().keys(keys).build()
}

pub(super) fn unique(field: &str) -> IndexModel {
    let options = IndexOptions::builder().unique(true).build();
    IndexModel::builder()
        .keys(doc! {field: 1})
        .options(options)
        .build()
}

/// An index of the documents that match `filter`.
pub(super) fn partial(keys: Document, filter: Document) -> IndexModel {
    let options = IndexOptions::builder()
        .partial_filter_expression(filter)
        .build();
    IndexModel::builder().keys(keys).options(options).build()
}

/// MongoDB deletes each document once the time in this field has passed.
pub(super) fn expiry(field: &str) -> IndexModel {
    let options = IndexOptions::builder().expire_after(Duration::ZERO).build();
    IndexModel::builder()
        .keys(doc! {field: 1})
        .options(options)
        .build()
}

pub(super) fn binary(bytes: &[u8]) -> bson::Binary {
    bson::Binary {
        subtype: BinarySubtype::Generic,
        bytes: bytes.to_vec(),
    }
}
