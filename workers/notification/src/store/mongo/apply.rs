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
use crate::domain::{Entry, Event};
use crate::store::Outcome;

impl MongoNotifications {
    pub(super) async fn apply_in(
        &self,
        session: &mut ClientSession,
        events: &[Event],
        now: Timestamp,
    ) -> MongoResult<Vec<Outcome>> {
        let mut ids = HashSet::new();
        let mut gone = HashSet::new();
        for event in events {
            match event {
                Event::Task(entry) => ids.extend([entry.event_id.as_str()]),
                Event::UserDeleted(user) => gone.extend([user]),
            }
        }
        // The tombstones first, so that the tasks see them: of what is in one batch, it does not
        // matter which came first.
        let mut buried = self.bury_in(session, gone, now).await?;
        let mut unknown = self.unknown_in(session, ids).await?;
        let mut fresh = Vec::new();
        let mut outcomes = Vec::with_capacity(events.len());
        for event in events {
            // Removed, so that the same event twice in one batch is a duplicate too.
            let new = match event {
                Event::Task(entry) => {
                    let new = unknown.remove(entry.event_id.as_str());
                    fresh.extend(new.then_some(entry));
                    new
                }
                Event::UserDeleted(user) => buried.remove(user),
            };
            outcomes.push(if new {
                Outcome::Applied
            } else {
                Outcome::Duplicate
            });
        }
        if !fresh.is_empty() {
            self.tell_in(session, &fresh, now).await?;
        }
        Ok(outcomes)
    }

    /// Those of some events that were never applied. Asked, never tried: an insert that fails ends
    /// the transaction.
    async fn unknown_in<'a>(
        &self,
        session: &mut ClientSession,
        mut ids: HashSet<&'a str>,
    ) -> MongoResult<HashSet<&'a str>> {
        if ids.is_empty() {
            return Ok(ids);
        }
        let asked: Vec<&str> = ids.iter().copied().collect();
        let mut known = self
            .processed
            .find(doc! {"_id": {"$in": asked}})
            .session(&mut *session)
            .await?;
        while let Some(document) = known.next(session).await.transpose()? {
            ids.remove(document.get_str("_id").unwrap_or_default());
        }
        Ok(ids)
    }

    async fn tell_in(
        &self,
        session: &mut ClientSession,
        fresh: &[&Entry],
        now: Timestamp,
    ) -> MongoResult<()> {
        let mut arrivals: HashMap<&UserId, i64> = HashMap::new();
        for notice in fresh.iter().flat_map(|entry| &entry.notices) {
            *arrivals.entry(&notice.user_id).or_default() += 1;
        }
        // The counters first: who collides learns it before the larger part of the work.
        let mut last = self.advance_in(session, arrivals).await?;
        let mut documents = Vec::new();
        for entry in fresh {
            for notice in &entry.notices {
                // Who is deleted has no number.
                if let Some(sequence) = last.get_mut(&notice.user_id) {
                    *sequence += 1;
                    documents.push(NotificationDocument::new(
                        &entry.event_id,
                        notice,
                        *sequence,
                    ));
                }
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
        Ok(())
    }

    /// Adds to the counter of each user who is not deleted, and returns where their numbering stood
    /// before. Who is deleted meanwhile has another counter than the one read here: a collision.
    async fn advance_in<'a>(
        &self,
        session: &mut ClientSession,
        arrivals: HashMap<&'a UserId, i64>,
    ) -> MongoResult<HashMap<&'a UserId, i64>> {
        if arrivals.is_empty() {
            return Ok(HashMap::new());
        }
        let users: Vec<&str> = arrivals.keys().map(|user| user.as_str()).collect();
        let mut counters = self
            .counters
            .find(doc! {"_id": {"$in": users}})
            .session(&mut *session)
            .await?;
        let mut before: HashMap<&UserId, i64> = arrivals.keys().map(|user| (*user, 0)).collect();
        while let Some(counter) = counters.next(session).await.transpose()? {
            if counter.deleted_at.is_some() {
                before.remove(&counter.id);
            } else if let Some(sequence) = before.get_mut(&counter.id) {
                *sequence = counter.sequence;
            }
        }
        let living = arrivals
            .iter()
            .filter(|(user, _)| before.contains_key(*user));
        let updates = living.map(|(user, count)| {
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
        Ok(before)
    }
}
