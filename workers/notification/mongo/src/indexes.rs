//! Creates the indexes when the worker prepares its store. Each index slows down every write, so there
//! are only those that a query needs.

use std::time::Duration;

use bson::{Document, doc};
use mongodb::IndexModel;
use mongodb::error::Result as MongoResult;
use mongodb::options::IndexOptions;
use notifications::domain::MEMORY;
use stores::idempotency;

use super::store::MongoNotifications;

impl MongoNotifications {
    pub(super) async fn create_all_indexes(&self) -> MongoResult<()> {
        let lists = doc! {"user_id": 1, "read": 1, "type": 1, "created_at": -1, "_id": -1};
        // Partial, so that only queries by sequence use it. Otherwise the server might choose it for
        // lists, and sort everything that a user has.
        let by_sequence = IndexOptions::builder()
            .name("by_sequence".to_owned())
            .unique(true)
            .partial_filter_expression(doc! {"sequence": {"$exists": true}});
        let notifications = [
            index(lists, None),
            index(
                doc! {"user_id": 1, "sequence": 1},
                Some(by_sequence.build()),
            ),
            index(doc! {"expires_at": 1}, None),
        ];
        let memory = Duration::from_secs(MEMORY.as_secs().unsigned_abs());
        let processed = index(doc! {"at": 1}, Some(expire_after(memory)));
        let answers = index(doc! {"at": 1}, Some(expire_after(idempotency::LIFETIME)));
        // Only users whose notifications are being removed have the field.
        let sparse = IndexOptions::builder().sparse(true).build();
        let counters = index(doc! {"forgetting": 1}, Some(sparse));
        // In parallel, because each waits for the disk. This also creates missing collections, which
        // must exist before a transaction uses them.
        let created = tokio::join!(
            self.notifications.create_indexes(notifications),
            self.processed.create_index(processed),
            self.answers.create_index(answers),
            self.counters.create_index(counters),
        );
        created.0?;
        created.1?;
        created.2?;
        created.3?;
        Ok(())
    }
}

fn index(keys: Document, options: Option<IndexOptions>) -> IndexModel {
    IndexModel::builder().keys(keys).options(options).build()
}

fn expire_after(lifetime: Duration) -> IndexOptions {
    IndexOptions::builder().expire_after(lifetime).build()
}
