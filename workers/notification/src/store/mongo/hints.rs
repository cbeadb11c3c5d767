//! A change stream on the counters: one change per user and transaction, and small.
//!
//! The server looks at every write of the database for as long as somebody waits for the next change,
//! so under load nobody waits: changes are fetched a little later, and more of them at once. The driver's
//! own stream would ask again by itself, and would resume; whoever follows hints begins anew after an
//! error and looks at everything once.

use std::time::Duration;

use async_trait::async_trait;
use bson::doc;
use futures_util::StreamExt;
use mongodb::Collection;
use mongodb::error::Result as MongoResult;
use mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};
use serde::Deserialize;
use shared::id::UserId;
use shared::mongo;
use shared::pace::Pace;
use shared::store::StoreError;

use super::document::CounterDocument;
use crate::store::Hints;

/// The server answers at least this often, with nothing when nothing changed.
const PULSE: Duration = Duration::from_secs(1);
/// A server that is silent for this long is gone, though the connection may not show it.
const SILENCE: Duration = Duration::from_secs(5);

/// So often under load, and so many times in a row before that.
const PACE: Duration = Duration::from_millis(10);
const IN_A_ROW: u32 = 10;

struct CounterChanges {
    batches: RawBatchCursor,
    pace: Pace,
    /// Users of the last batch.
    users: std::vec::IntoIter<UserId>,
}

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
    let batches = mongo::run("hints", async move {
        // Marking as read changes counters too; it brings nothing new.
        let advanced = doc! {"$match": {"$or": [
            {"operationType": "insert"},
            {"updateDescription.updatedFields.sequence": {"$exists": true}},
            {"updateDescription.updatedFields.deleted_at": {"$exists": true}},
        ]}};
        let small = doc! {"$project": {"documentKey": 1}};
        let changes = counters.aggregate([doc! {"$changeStream": {}}, advanced, small]);
        changes.max_await_time(PULSE).batch().await
    });
    Ok(Box::new(CounterChanges {
        batches: batches.await?,
        pace: Pace::new(PACE, IN_A_ROW),
        users: Vec::new().into_iter(),
    }))
}

#[async_trait]
impl Hints for CounterChanges {
    async fn next(&mut self) -> Result<UserId, StoreError> {
        loop {
            if let Some(user) = self.users.next() {
                return Ok(user);
            }
            self.pace.turn().await;
            let batch = tokio::time::timeout(SILENCE, self.batches.next())
                .await
                .map_err(|late| StoreError::unavailable("hints", late))?
                .ok_or_else(|| StoreError::unavailable("hints", "the stream has ended"))?;
            self.users = batch
                .and_then(|batch| users(&batch))
                .map_err(|error| StoreError::unavailable("hints", error))?
                .into_iter();
        }
    }
}

fn users(batch: &RawBatch) -> MongoResult<Vec<UserId>> {
    let mut users = Vec::new();
    for change in batch.doc_slices()? {
        if let Some(change) = change?.as_document() {
            let change: Change = bson::deserialize_from_slice(change.as_bytes())?;
            users.push(change.document_key.user);
        }
    }
    Ok(users)
}
