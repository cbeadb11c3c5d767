//! Removes what is stored of deleted users. The transaction that applies the event puts a tombstone on
//! the user's counter; later steps, which hold up nobody else, remove the user's notifications.
//!
//! Invariant: a transaction that adds a notification also writes its user's counter. So when an event
//! and a tombstone are written at the same moment, one transaction starts over and sees the other:
//! either the notification is there before the tombstone and is removed later, or it is never added.

use std::collections::HashSet;

use bson::{Document, doc};
use contract::id::UserId;
use jiff::Timestamp;
use mongo::to_bson;
use mongodb::ClientSession;
use mongodb::error::Result as MongoResult;

use super::document::SCHEMA;
use super::store::MongoNotifications;

impl MongoNotifications {
    /// Puts a tombstone on each of these users who has none, and returns those users.
    pub(super) async fn add_tombstones_in<'a>(
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

    /// A user with a tombstone who may still have notifications. It reads only the counter's id, so that
    /// one unreadable counter does not stop the removal for all other users.
    pub(super) async fn user_to_forget(&self) -> MongoResult<Option<UserId>> {
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

    /// Removes some notifications of a user with a tombstone, or records that none is left.
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
        let Some(removed_up_to) = counter.and_then(|counter| counter.get_i64("forgetting").ok())
        else {
            // Another worker has finished it.
            return Ok(());
        };
        let mut left = self
            .notifications
            .clone_with_type::<Document>()
            // Continues where the last step stopped: a search from the start would scan the index entries
            // of all removed notifications.
            .find(doc! {"user_id": user.as_str(), "sequence": {"$gt": removed_up_to}})
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
