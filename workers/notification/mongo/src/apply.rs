//! Applies a batch of events inside a transaction.
//!
//! Each command of a transaction costs the server and us about as much as the work it does. So a batch
//! is first applied without reading, on two assumptions that are nearly always true: none of its events
//! was applied before, and no other worker has changed the counters that we changed last. If one is
//! wrong, the store refuses the write (a duplicate id, or a counter with another sequence number) and
//! nothing is changed; the batch is then applied again, after reading both.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use bson::doc;
use contract::id::UserId;
use futures_util::FutureExt;
use jiff::Timestamp;
use mongo::{is_final, to_bson};
use mongodb::ClientSession;
use mongodb::error::{Error, Result as MongoResult};
use notifications::domain::{Event, TaskNotifications};
use notifications::store::Outcome;

use super::document::{NotificationDocument, SCHEMA};
use super::remembered::Sequences;
use super::store::MongoNotifications;
use super::transaction::RETRY_FOR;

/// How many write conflicts a batch may have before it is tried again with half as many events.
const MAX_CONFLICTS: u32 = 4;

/// Events, and the sequence numbers that are assumed; `None` means to read first.
struct Batch {
    events: Arc<[Event]>,
    now: Timestamp,
    assumed: Option<Sequences>,
}

/// A counter had another sequence number than assumed.
struct AssumedWrong;

/// Whether reading first may help. It may even when a counter is unreadable: a user who already has the
/// notification needs no counter.
fn assumed_wrong(error: &Error) -> bool {
    error.get_custom::<AssumedWrong>().is_some() || is_final(error)
}

impl MongoNotifications {
    /// Applies a whole batch. `None` when it had more write conflicts than [`MAX_CONFLICTS`]. A single
    /// event is tried for as long as its caller waits.
    pub(super) async fn apply_batch(
        &self,
        events: Arc<[Event]>,
        now: Timestamp,
    ) -> MongoResult<Option<Vec<Outcome>>> {
        let batch = |assumed| Batch {
            events: events.clone(),
            now,
            assumed,
        };
        let max_conflicts = match events.len() {
            1 => u32::MAX,
            _ => MAX_CONFLICTS,
        };
        let give_up = Instant::now() + RETRY_FOR;
        let apply_on = async |assumed| {
            self.transaction_until(
                give_up,
                max_conflicts,
                batch(assumed),
                |this, session, batch| this.apply_in(session, batch).boxed(),
            )
            .await
        };
        let mut applied = apply_on(Some(self.remembered.take(&events))).await;
        if applied.as_ref().is_err_and(assumed_wrong) {
            applied = apply_on(None).await;
        }
        Ok(applied?.map(|(outcomes, sequences)| {
            self.remembered.put(sequences);
            outcomes
        }))
    }

    async fn apply_in(
        &self,
        session: &mut ClientSession,
        batch: &Batch,
    ) -> MongoResult<(Vec<Outcome>, Sequences)> {
        let Batch {
            events,
            now,
            assumed,
        } = batch;
        let mut ids = HashSet::new();
        let mut users = HashSet::new();
        for event in events.iter() {
            match event {
                Event::Task(task) => ids.extend([task.event_id.as_str()]),
                Event::UserDeleted(user) => users.extend([user]),
            }
        }
        // Tombstones first, so that the task events see them: within one batch the order of events
        // does not matter.
        let mut deleted = self.add_tombstones_in(session, users, *now).await?;
        let mut not_applied = match assumed {
            Some(_) => ids,
            None => self.not_applied_in(session, ids).await?,
        };
        let mut fresh = Vec::new();
        let mut outcomes = Vec::with_capacity(events.len());
        for event in events.iter() {
            // Removed, so that an event that is in the batch twice is a duplicate the second time.
            let new = match event {
                Event::Task(task) => {
                    let new = not_applied.remove(task.event_id.as_str());
                    fresh.extend(new.then_some(task));
                    new
                }
                Event::UserDeleted(user) => deleted.remove(user),
            };
            outcomes.push(if new {
                Outcome::Applied
            } else {
                Outcome::Duplicate
            });
        }
        let mut sequences = Sequences::new();
        if !fresh.is_empty() {
            let remembered = assumed.as_ref().unwrap_or(&sequences);
            sequences = self.notify_in(session, &fresh, remembered, *now).await?;
        }
        Ok((outcomes, sequences))
    }

    /// The events that were not applied yet. They are read, because a failed insert would end the
    /// transaction.
    async fn not_applied_in<'a>(
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

    async fn notify_in(
        &self,
        session: &mut ClientSession,
        fresh: &[&TaskNotifications],
        remembered: &Sequences,
        now: Timestamp,
    ) -> MongoResult<Sequences> {
        let mut arrivals: HashMap<&UserId, i64> = HashMap::new();
        for content in fresh.iter().flat_map(|task| &task.notifications) {
            *arrivals.entry(&content.user_id).or_default() += 1;
        }
        // The counters first, so that a write conflict shows before most of the work is done.
        let mut last = self
            .advance_counters_in(session, arrivals, remembered)
            .await?;
        let mut documents = Vec::new();
        for task in fresh {
            for content in &task.notifications {
                // A deleted user gets no sequence number.
                if let Some(sequence) = last.get_mut(&content.user_id) {
                    *sequence += 1;
                    documents.push(NotificationDocument::new(
                        &task.event_id,
                        content,
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
            .map(|task| doc! {"_id": &task.event_id, "at": at});
        self.processed.insert_many(applied).session(session).await?;
        let last = last.into_iter();
        Ok(last
            .map(|(user, sequence)| (user.clone(), sequence))
            .collect())
    }

    /// Adds to the counter of each user who is not deleted, and returns their last sequence numbers
    /// before that: as `remembered`, or else as read. If a user is deleted meanwhile, their counter
    /// changes, which is a write conflict.
    async fn advance_counters_in<'a>(
        &self,
        session: &mut ClientSession,
        arrivals: HashMap<&'a UserId, i64>,
        remembered: &Sequences,
    ) -> MongoResult<HashMap<&'a UserId, i64>> {
        let mut before: HashMap<&UserId, i64> = arrivals
            .keys()
            .map(|user| (*user, remembered.get(*user).copied().unwrap_or_default()))
            .collect();
        let asked = arrivals
            .keys()
            .filter(|user| !remembered.contains_key(**user));
        let asked: Vec<&str> = asked.map(|user| user.as_str()).collect();
        if !asked.is_empty() {
            let mut counters = self
                .counters
                .find(doc! {"_id": {"$in": asked}})
                .session(&mut *session)
                .await?;
            while let Some(counter) = counters.next(session).await.transpose()? {
                if counter.deleted_at.is_some() {
                    before.remove(&counter.id);
                } else if let Some(sequence) = before.get_mut(&counter.id) {
                    *sequence = counter.sequence;
                }
            }
        }
        let living = arrivals
            .iter()
            .filter(|(user, _)| before.contains_key(*user));
        let updates: Vec<_> = living
            .map(|(user, count)| {
                let add = doc! {"sequence": count, "unread": count};
                let new = doc! {"purged": 0_i64, "schema": SCHEMA};
                let user_id = user.as_str();
                match remembered.get(*user) {
                    Some(sequence) => doc! {
                        "q": {"_id": user_id, "sequence": sequence, "deleted_at": null},
                        "u": {"$inc": add},
                    },
                    None => doc! {
                        "q": {"_id": user_id},
                        "u": {"$inc": add, "$setOnInsert": new},
                        "upsert": true,
                    },
                }
            })
            .collect();
        let count = updates.len();
        if self.update_counters(session, updates).await? < count {
            return Err(Error::custom(AssumedWrong));
        }
        Ok(before)
    }
}
