//! Erasures in MongoDB: one document for each erasure under way.
//!
//! A new erasure must be durable on a majority before this returns, because its event is acknowledged
//! afterwards and does not come again.

use async_trait::async_trait;
use bson::{Document, doc};
use events::consumer::Outcome;
use jiff::Timestamp;
use mongo::{run, to_bson};
use mongodb::error::Error;
use stores::StoreError;
use tasks::domain::Erasure;
use tasks::store::Erasures;

use super::MongoTaskStore;
use super::document::ERASURES;

const DUPLICATE_KEY: i32 = 11000;

#[async_trait]
impl Erasures for MongoTaskStore {
    async fn note(&self, erasures: &[Erasure]) -> Result<Vec<Outcome>, StoreError> {
        let note = |erasure: &Erasure| {
            let times = doc! {"since": to_bson(erasure.since), "due_at": to_bson(erasure.due_at)};
            let id = doc! {"_id": erasure.user_id.as_str()};
            doc! {"q": id, "u": {"$setOnInsert": times}, "upsert": true}
        };
        let notes = doc! {
            "update": ERASURES,
            "updates": erasures.iter().map(note).collect::<Vec<_>>(),
            "ordered": false,
            // An acknowledged event is not delivered again.
            "writeConcern": {"w": "majority", "j": true},
        };
        let (database, count) = (self.database.clone(), erasures.len());
        run("store erasures", async move {
            let reply = database.run_command(notes).await?;
            outcomes(&reply, count).map_err(Error::custom)
        })
        .await
    }

    async fn due(&self, now: Timestamp) -> Result<Option<Erasure>, StoreError> {
        let erasures = self.erasures.clone();
        let found = run("find erasure", async move {
            erasures
                .find_one(doc! {"due_at": {"$lte": to_bson(now)}})
                .sort(doc! {"due_at": 1})
                .await
        });
        Ok(found.await?.map(Erasure::from))
    }

    async fn reschedule(
        &self,
        erasure: &Erasure,
        due_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let erasures = self.erasures.clone();
        let as_read = doc! {"_id": erasure.user_id.as_str(), "due_at": to_bson(erasure.due_at)};
        run("reschedule erasure", async move {
            match due_at {
                Some(due_at) => {
                    let later = doc! {"$set": {"due_at": to_bson(due_at)}};
                    erasures.update_one(as_read, later).await.map(drop)
                }
                None => erasures.delete_one(as_read).await.map(drop),
            }
        })
        .await
    }
}

/// One outcome for each erasure: applied if it was inserted, duplicate if it was there already or
/// another worker inserted it at the same moment.
fn outcomes(reply: &Document, count: usize) -> Result<Vec<Outcome>, String> {
    let list = |name| reply.get_array(name).into_iter().flatten();
    let failed = list("writeErrors")
        .filter_map(|error| error.as_document())
        .find(|error| {
            !error
                .get_i32("code")
                .is_ok_and(|code| code == DUPLICATE_KEY)
        });
    if let Some(failed) = failed.or(reply.get_document("writeConcernError").ok()) {
        return Err(format!("erasures were not stored: {failed}"));
    }
    let mut outcomes = vec![Outcome::Duplicate; count];
    let new = list("upserted").filter_map(|upserted| upserted.as_document()?.get_i32("index").ok());
    for index in new.filter_map(|index| usize::try_from(index).ok()) {
        if let Some(outcome) = outcomes.get_mut(index) {
            *outcome = Outcome::Applied;
        }
    }
    Ok(outcomes)
}
