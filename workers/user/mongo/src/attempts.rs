//! Counters of attempts: one small document each. It expires when the counter is
//! empty and its client is no longer known.
//!
//! Each counted attempt costs a password hash, so hashing bounds the number of documents. Losing
//! some counters in a crash is acceptable, so their writes wait neither for a majority nor for the
//! disk.

use bson::{Document, doc};
use jiff::Timestamp;
use mongo::{from_bson, is_duplicate_key, run, to_bson};
use mongodb::options::{Acknowledgment, CollectionOptions, ReturnDocument, WriteConcern};
use mongodb::{Collection, Database};
use serde::Deserialize;
use stores::StoreError;
use users::domain::{CounterKey, Quota};
use users::store::AttemptDecision;

use super::schema::{binary, expiry};

pub(super) struct Attempts(Collection<CounterDocument>);

/// A counter, as read before an attempt.
#[derive(Deserialize)]
pub(super) struct CounterDocument {
    empty_at: Option<bson::DateTime>,
    known_until: Option<bson::DateTime>,
}

impl Attempts {
    pub(super) fn of(database: &Database) -> Self {
        let acknowledged = WriteConcern::builder().w(Acknowledgment::Nodes(1)).build();
        let options = CollectionOptions::builder()
            .write_concern(acknowledged)
            .build();
        Self(database.collection_with_options("attempts", options))
    }

    pub(super) async fn prepare(&self) -> Result<(), StoreError> {
        let attempts = self.0.clone();
        run("prepare attempts", async move {
            attempts.create_index(expiry("expires_at")).await
        })
        .await?;
        Ok(())
    }

    /// The server decides like [`Quota::take`], in one write. Afterwards that function derives the
    /// decision from the counter before the write.
    pub(super) async fn take(
        &self,
        key: &CounterKey,
        quota: &Quota,
        now: Timestamp,
    ) -> Result<AttemptDecision, StoreError> {
        let (attempts, id) = (self.0.clone(), binary(key.as_bytes()));
        let filled = to_bson(now + quota.depth());
        let present = doc! {"$max": ["$empty_at", to_bson(now)]};
        let next = doc! {"$add": [&present, millis(quota)]};
        let fits = doc! {"$lte": [&next, filled]};
        let update = [
            doc! {"$set": {"empty_at": {"$cond": [fits, next, present]}}},
            expires(),
        ];
        let before = run("take attempt", async move {
            let take = async || {
                attempts
                    .find_one_and_update(doc! {"_id": &id}, update.to_vec())
                    .upsert(true)
                    .return_document(ReturnDocument::Before)
                    .await
            };
            match take().await {
                // A concurrent attempt has just created the same counter.
                Err(error) if is_duplicate_key(&error) => take().await,
                taken => taken,
            }
        })
        .await?;
        let empty_at = before.as_ref().and_then(|before| before.empty_at);
        let known_until = before.as_ref().and_then(|before| before.known_until);
        Ok(AttemptDecision {
            admitted: quota.take(empty_at.map(from_bson), now).map(drop),
            known: known_until.is_some_and(|until| from_bson(until) > now),
        })
    }

    pub(super) async fn give_back(
        &self,
        key: &CounterKey,
        quota: &Quota,
        known_until: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let (attempts, id) = (self.0.clone(), binary(key.as_bytes()));
        let mut set = doc! {"empty_at": {"$subtract": ["$empty_at", millis(quota)]}};
        if let Some(until) = known_until {
            set.insert("known_until", to_bson(until));
        }
        let update = [doc! {"$set": set}, expires()];
        run("return attempt", async move {
            attempts.update_one(doc! {"_id": id}, update.to_vec()).await
        })
        .await?;
        Ok(())
    }
}

fn millis(quota: &Quota) -> i64 {
    quota.every.as_millis() as i64
}

fn expires() -> Document {
    doc! {"$set": {"expires_at": {"$max": ["$empty_at", "$known_until"]}}}
}
