//! Takes over what another store had. What is here already stays as it is, so an import that broke
//! off is finished by repeating it.

use bson::{Document, doc};
use mongo::{insert_missing, run, to_bson};
use notifications::domain::Notification;
use notifications::store::transfer::{Applied, Count, Told};
use stores::StoreError;

use super::MongoNotifications;
use super::document::{NotificationDocument, SCHEMA};

const OPERATION: &str = "import notifications";

impl MongoNotifications {
    pub async fn take_over_told(&self, told: Vec<Told>) -> Result<(), StoreError> {
        let document = |told: Told| {
            let Notification {
                notice,
                sequence,
                read,
            } = told.into();
            let event = format!("{}:{}", notice.task_id, notice.task_version);
            let mut document = NotificationDocument::new(&event, &notice, sequence.cast_signed());
            document.read = read;
            document
        };
        let documents = told.into_iter().map(document).collect();
        let notifications = self.notifications.clone();
        run(OPERATION, async move {
            insert_missing(&notifications, documents).await
        })
        .await
    }

    pub async fn take_over_counts(&self, counts: Vec<Count>) -> Result<(), StoreError> {
        let document = |count: Count| {
            let mut document = doc! {
                "_id": count.user_id.as_str(),
                "sequence": count.sequence.cast_signed(),
                "unread": count.unread.cast_signed(),
                "purged": count.purged.cast_signed(),
                "schema": SCHEMA,
            };
            if let Some(at) = count.deleted_at {
                document.extend(doc! {"deleted_at": to_bson(at), "forgetting": 0_i64});
            }
            document
        };
        let documents: Vec<Document> = counts.into_iter().map(document).collect();
        let counters = self.counters.clone_with_type();
        run(OPERATION, async move {
            insert_missing(&counters, documents).await
        })
        .await
    }

    pub async fn take_over_applied(&self, applied: Vec<Applied>) -> Result<(), StoreError> {
        let document = |one: Applied| doc! {"_id": one.event_id, "at": to_bson(one.at)};
        let documents = applied.into_iter().map(document).collect();
        let processed = self.processed.clone();
        run(OPERATION, async move {
            insert_missing(&processed, documents).await
        })
        .await
    }
}
