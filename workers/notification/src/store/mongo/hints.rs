//! A change stream on the counters: one change per user and transaction, and small.

use std::time::Duration;

use async_trait::async_trait;
use bson::doc;
use mongodb::Collection;
use mongodb::change_stream::ChangeStream;
use serde::Deserialize;
use shared::id::UserId;
use shared::mongo;
use shared::store::StoreError;

use super::document::CounterDocument;
use crate::store::Hints;

/// The server answers at least this often, with nothing when nothing changed.
const PULSE: Duration = Duration::from_secs(1);
/// A server that is silent for this long is gone, though the connection may not show it.
const SILENCE: Duration = Duration::from_secs(5);

struct CounterChanges(ChangeStream<Change>);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    document_key: DocumentKey,
}

#[derive(Debug, Deserialize)]
struct DocumentKey {
    #[serde(rename = "_id")]
    user: UserId,
}

pub(super) async fn watch(
    counters: &Collection<CounterDocument>,
) -> Result<Box<dyn Hints>, StoreError> {
    let counters = counters.clone();
    let changes = mongo::run("hints", async move {
        // Marking as read changes counters too; it brings nothing new.
        let advanced = doc! {"$match": {"$or": [
            {"operationType": "insert"},
            {"updateDescription.updatedFields.sequence": {"$exists": true}},
            {"updateDescription.updatedFields.deleted_at": {"$exists": true}},
        ]}};
        let small = doc! {"$project": {"operationType": 1, "ns": 1, "documentKey": 1}};
        counters
            .watch()
            .pipeline([advanced, small])
            .max_await_time(PULSE)
            .await
    })
    .await?;
    Ok(Box::new(CounterChanges(changes.with_type())))
}

#[async_trait]
impl Hints for CounterChanges {
    async fn next(&mut self) -> Result<UserId, StoreError> {
        loop {
            match tokio::time::timeout(SILENCE, self.0.next_if_any()).await {
                Ok(Ok(Some(change))) => return Ok(change.document_key.user),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => return Err(StoreError::unavailable("hints", error)),
                Err(late) => return Err(StoreError::unavailable("hints", late)),
            }
        }
    }
}
