//! Applies a batch of events inside a transaction.

use std::collections::{HashMap, HashSet};

use bson::doc;
use jiff::Timestamp;
use mongodb::ClientSession;
use mongodb::error::Result as MongoResult;
use shared::id::UserId;
use shared::mongo::to_bson;

use super::MongoNotifications;
use super::document::{NotificationDocument, SCHEMA};
use crate::domain::Entry;
use crate::store::Outcome;

impl MongoNotifications {
    pub(super) async fn apply_in(
        &self,
        session: &mut ClientSession,
        entries: &[Entry],
        now: Timestamp,
    ) -> MongoResult<Vec<Outcome>> {
        // Asked, never tried: an insert that fails ends the transaction.
        let ids: Vec<&str> = entries
            .iter()
            .map(|entry| entry.event_id.as_str())
            .collect();
        let mut known = HashSet::new();
        let mut found = self
            .processed
            .find(doc! {"_id": {"$in": ids}})
            .session(&mut *session)
            .await?;
        while let Some(document) = found.next(session).await.transpose()? {
            known.insert(document.get_str("_id").unwrap_or_default().to_owned());
        }

        let mut fresh = Vec::new();
        let mut outcomes = Vec::with_capacity(entries.len());
        for entry in entries {
            // The same event twice in one batch is a duplicate too.
            let new = known.insert(entry.event_id.clone());
            outcomes.push(if new {
                Outcome::Applied
            } else {
                Outcome::Duplicate
            });
            fresh.extend(new.then_some(entry));
        }
        if fresh.is_empty() {
            return Ok(outcomes);
        }

        let mut arrivals: HashMap<&UserId, i64> = HashMap::new();
        for notice in fresh.iter().flat_map(|entry| &entry.notices) {
            *arrivals.entry(&notice.user_id).or_default() += 1;
        }
        // The counters first: who collides learns it before the larger part of the work.
        let mut next = self.advance(session, &arrivals).await?;
        let mut documents = Vec::new();
        for entry in &fresh {
            for notice in &entry.notices {
                let sequence = next.entry(notice.user_id.clone()).or_default();
                *sequence += 1;
                documents.push(NotificationDocument::new(
                    &entry.event_id,
                    notice,
                    *sequence,
                ));
            }
        }
        if !documents.is_empty() {
            self.notifications
                .insert_many(documents)
                .session(&mut *session)
                .await?;
        }
        let at = to_bson(now);
        let applied = fresh
            .iter()
            .map(|entry| doc! {"_id": &entry.event_id, "at": at});
        self.processed.insert_many(applied).session(session).await?;
        Ok(outcomes)
    }

    /// Adds to each user's counter and returns where their numbering stood before.
    async fn advance(
        &self,
        session: &mut ClientSession,
        arrivals: &HashMap<&UserId, i64>,
    ) -> MongoResult<HashMap<UserId, i64>> {
        if arrivals.is_empty() {
            return Ok(HashMap::new());
        }
        let updates = arrivals.iter().map(|(user, count)| {
            doc! {
                "q": {"_id": user.as_str()},
                "u": {
                    "$inc": {"sequence": count, "unread": count},
                    "$setOnInsert": {"purged": 0_i64, "schema": SCHEMA},
                },
                "upsert": true,
            }
        });
        self.update_counters(session, updates.collect()).await?;

        let users: Vec<&str> = arrivals.keys().map(|user| user.as_str()).collect();
        let mut counters = self
            .counters
            .find(doc! {"_id": {"$in": users}})
            .session(&mut *session)
            .await?;
        let mut before = HashMap::with_capacity(arrivals.len());
        while let Some(counter) = counters.next(session).await.transpose()? {
            let count = arrivals.get(&counter.id).copied().unwrap_or_default();
            before.insert(counter.id, counter.sequence - count);
        }
        Ok(before)
    }
}
