//! Imports what another store exported. It never changes an existing document, so an interrupted
//! import is finished by repeating it. The import of the platform in one process calls it.

use bson::{Document, doc};
use mongo::{insert_missing, run, to_bson};
use notifications::domain::Notification;
use notifications::store::transfer::{AppliedEvent, CounterRecord, NotificationRecord};
use stores::StoreError;

use super::document::{NotificationDocument, SCHEMA};
use super::store::MongoNotifications;

const OPERATION: &str = "import notifications";

impl MongoNotifications {
    pub async fn import_notifications(
        &self,
        records: Vec<NotificationRecord>,
    ) -> Result<(), StoreError> {
        let document = |record: NotificationRecord| {
            let Notification {
                content,
                sequence,
                read,
            } = record.into();
            let event_id = format!("{}:{}", content.task_id, content.task_version);
            let mut document =
                NotificationDocument::new(&event_id, &content, sequence.cast_signed());
            document.read = read;
            document
        };
        let documents = records.into_iter().map(document).collect();
        let notifications = self.notifications.clone();
        run(OPERATION, async move {
            insert_missing(&notifications, documents).await
        })
        .await
    }

    pub async fn import_counters(&self, records: Vec<CounterRecord>) -> Result<(), StoreError> {
        let document = |record: CounterRecord| {
            let mut document = doc! {
                "_id": record.user_id.as_str(),
                "sequence": record.sequence.cast_signed(),
                "unread": record.unread.cast_signed(),
                "purged": record.purged.cast_signed(),
                "schema": SCHEMA,
            };
            if let Some(at) = record.deleted_at {
                document.extend(doc! {"deleted_at": to_bson(at), "forgetting": 0_i64});
            }
            document
        };
        let documents: Vec<Document> = records.into_iter().map(document).collect();
        let counters = self.counters.clone_with_type();
        run(OPERATION, async move {
            insert_missing(&counters, documents).await
        })
        .await
    }

    pub async fn import_applied_events(&self, events: Vec<AppliedEvent>) -> Result<(), StoreError> {
        let document = |event: AppliedEvent| doc! {"_id": event.event_id, "at": to_bson(event.at)};
        let documents = events.into_iter().map(document).collect();
        let processed = self.processed.clone();
        run(OPERATION, async move {
            insert_missing(&processed, documents).await
        })
        .await
    }
}
