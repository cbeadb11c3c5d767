//! The indexes. Each costs every write, so there are no more than these.

use std::time::Duration;

use bson::{Document, doc};
use mongodb::IndexModel;
use mongodb::error::Result as MongoResult;
use mongodb::options::IndexOptions;
use notifications::domain::MEMORY;
use stores::idempotency;

use super::MongoNotifications;

impl MongoNotifications {
    pub(super) async fn make_indexes(&self) -> MongoResult<()> {
        let unread_or_not = doc! {"user_id": 1, "read": 1, "type": 1, "created_at": -1, "_id": -1};
        // It could serve lists too, with a sort of everything a user has. Being partial, it serves
        // only who asks for a sequence.
        let sequenced = IndexOptions::builder()
            .name("by_sequence".to_owned())
            .unique(true)
            .partial_filter_expression(doc! {"sequence": {"$exists": true}});
        let notifications = [
            index(unread_or_not, None),
            index(doc! {"user_id": 1, "sequence": 1}, Some(sequenced.build())),
            index(doc! {"expires_at": 1}, None),
        ];
        let memory = Duration::from_secs(MEMORY.as_secs().unsigned_abs());
        let processed = index(doc! {"at": 1}, Some(expire_after(memory)));
        let answers = index(doc! {"at": 1}, Some(expire_after(idempotency::LIFETIME)));
        // Only users who are being forgotten have the field.
        let sparse = IndexOptions::builder().sparse(true).build();
        let counters = index(doc! {"forgetting": 1}, Some(sparse));
        // At once: each waits for the disk. Where a collection is missing, this makes it; a
        // transaction must find it.
        let made = tokio::join!(
            self.notifications.create_indexes(notifications),
            self.processed.create_index(processed),
            self.answers.create_index(answers),
            self.counters.create_index(counters),
        );
        made.0?;
        made.1?;
        made.2?;
        made.3?;
        Ok(())
    }
}

fn index(keys: Document, options: Option<IndexOptions>) -> IndexModel {
    IndexModel::builder().keys(keys).options(options).build()
}

fn expire_after(lifetime: Duration) -> IndexOptions {
    IndexOptions::builder().expire_after(lifetime).build()
}
