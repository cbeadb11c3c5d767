//! Forgets deleted users: a tombstone on their counter first, in the transaction that applies the
//! event; then, in steps that are nobody else's business, everything they were told.
//!
//! Invariant: whoever adds a notification writes its user's counter in the same transaction. So of
//! an event and a tombstone at the same moment, one starts over and sees the other: either the
//! notification is there before the tombstone, and is removed after it, or it is never added.

use std::collections::HashSet;

use bson::{Document, doc};
use contract::id::UserId;
use jiff::Timestamp;
use mongo::to_bson;
use mongodb::ClientSession;
use mongodb::error::Result as MongoResult;

use super::MongoNotifications;
use super::document::SCHEMA;

impl MongoNotifications {
    /// Puts a tombstone on every one of these users that has none, and returns who those are.
    pub(super) async fn bury_in<'a>(
        &self,
        session: &mut ClientSession,
        users: HashSet<&'a UserId>,
        now: Timestamp,
    ) -> MongoResult<HashSet<&'a UserId>> {
        let mut living = users;
        if living.is_empty() {
            return Ok(living);
        }
        let ids: Vec<&str> = living.iter().map(|user| user.as_str()).collect();
        let mut dead = self
            .counters
            .clone_with_type::<Document>()
            .find(doc! {"_id": {"$in": ids}, "deleted_at": {"$exists": true}})
            .projection(doc! {"_id": 1})
            .session(&mut *session)
            .await?;
        while let Some(document) = dead.next(session).await.transpose()? {
            let id = document.get_str("_id").unwrap_or_default();
            living.retain(|user| user.as_str() != id);
        }
        let updates = living.iter().map(|user| {
            doc! {
                "q": {"_id": user.as_str()},
                "u": {
                    "$set": {"unread": 0_i64, "deleted_at": to_bson(now), "forgetting": 0_i64},
                    "$setOnInsert": {"sequence": 0_i64, "purged": 0_i64, "schema": SCHEMA},
                },
                "upsert": true,
            }
        });
        self.update_counters(session, updates.collect()).await?;
        Ok(living)
    }

    /// Somebody with a tombstone who still has, or may have, notifications. No more of the counter
    /// is read: one that cannot be must not keep everybody else from being forgotten.
    pub(super) async fn being_forgotten(&self) -> MongoResult<Option<UserId>> {
        let found = self
            .counters
            .clone_with_type::<Document>()
            .find_one(doc! {"forgetting": {"$gte": 0_i64}})
            .projection(doc! {"_id": 1})
            .await?;
        let id = found
            .as_ref()
            .and_then(|counter| counter.get_str("_id").ok());
        Ok(id.and_then(UserId::parse))
    }

    /// Removes some of what a user with a tombstone was told, or notes that nothing is left.
    pub(super) async fn forget_in(
        &self,
        session: &mut ClientSession,
        user: &UserId,
        limit: usize,
    ) -> MongoResult<()> {
        let this_user = doc! {"_id": user.as_str()};
        let counter = self
            .counters
            .clone_with_type::<Document>()
            .find_one(this_user.clone())
            .projection(doc! {"forgetting": 1})
            .session(&mut *session)
            .await?;
        let Some(gone) = counter.and_then(|counter| counter.get_i64("forgetting").ok()) else {
            // Another worker was faster.
            return Ok(());
        };
        let mut left = self
            .notifications
            .clone_with_type::<Document>()
            // From where the last step stopped: a search from the start would pass by all that was
            // removed.
            .find(doc! {"user_id": user.as_str(), "sequence": {"$gt": gone}})
            .projection(doc! {"sequence": 1})
            .sort(doc! {"sequence": 1})
            .limit(i64::try_from(limit).unwrap_or(i64::MAX))
            .session(&mut *session)
            .await?;
        let mut last = None;
        let mut ids = Vec::new();
        while let Some(document) = left.next(session).await.transpose()? {
            last = document.get_i64("sequence").ok();
            ids.extend(document.get("_id").cloned());
        }
        let progress = match last {
            Some(last) => {
                self.notifications
                    .delete_many(doc! {"_id": {"$in": ids}})
                    .session(&mut *session)
                    .await?;
                doc! {"$set": {"forgetting": last}}
            }
            None => {
                self.answers
                    .delete_one(this_user.clone())
                    .session(&mut *session)
                    .await?;
                doc! {"$unset": {"forgetting": ""}}
            }
        };
        self.counters
            .update_one(this_user, progress)
            .session(session)
            .await?;
        Ok(())
    }
}
