//! Applies a batch of events inside a transaction.
//!
//! Each command of a transaction costs the server and us about as much as the work it does. So a batch is
//! tried on what is nearly always so: that none of its events was applied before, and that nobody has
//! moved the counters that we moved last. Where that is wrong, the store refuses (an id that is there, a
//! counter that stands elsewhere), nothing has happened, and the batch is applied after a look at both.

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
use notifications::domain::{Entry, Event};
use notifications::store::Outcome;

use super::MongoNotifications;
use super::document::{NotificationDocument, SCHEMA};
use super::remembered::Numbering;
use super::transaction::RETRY_FOR;

/// A batch that collides this often is tried again with half as much.
const MAX_COLLISIONS: u32 = 4;
/// Events, and what they are tried on: `None` is a look first.
struct Batch {
    events: Arc<[Event]>,
    now: Timestamp,
    guess: Option<Numbering>,
}

/// A counter stood elsewhere.
struct GuessedWrong;

/// Whether a look may help: also where a counter cannot be read, for who was told already needs none.
fn guessed_wrong(error: &Error) -> bool {
    error.get_custom::<GuessedWrong>().is_some() || is_final(error)
}

impl MongoNotifications {
    /// Applies all of a batch. `None` where it collided more often than [`MAX_COLLISIONS`]; a single event
    /// is tried for as long as anybody waits.
    pub(super) async fn apply_batch(
        &self,
        events: Arc<[Event]>,
        now: Timestamp,
    ) -> MongoResult<Option<Vec<Outcome>>> {
        let batch = |guess| Batch {
            events: events.clone(),
            now,
            guess,
        };
        let max_collisions = match events.len() {
            1 => u32::MAX,
            _ => MAX_COLLISIONS,
        };
        let give_up = Instant::now() + RETRY_FOR;
        let apply_on = async |guess| {
            self.transaction_until(
                give_up,
                max_collisions,
                batch(guess),
                |this, session, batch| this.apply_in(session, batch).boxed(),
            )
            .await
        };
        let mut applied = apply_on(Some(self.remembered.take(&events))).await;
        if applied.as_ref().is_err_and(guessed_wrong) {
            applied = apply_on(None).await;
        }
        Ok(applied?.map(|(outcomes, numbering)| {
            self.remembered.put(numbering);
            outcomes
        }))
    }

    async fn apply_in(
        &self,
        session: &mut ClientSession,
        batch: &Batch,
    ) -> MongoResult<(Vec<Outcome>, Numbering)> {
        let Batch { events, now, guess } = batch;
        let mut ids = HashSet::new();
        let mut gone = HashSet::new();
        for event in events.iter() {
            match event {
                Event::Task(entry) => ids.extend([entry.event_id.as_str()]),
                Event::UserDeleted(user) => gone.extend([user]),
            }
        }
        // The tombstones first, so that the tasks see them: of what is in one batch, it does not
        // matter which came first.
        let mut buried = self.bury_in(session, gone, *now).await?;
        let mut unknown = match guess {
            Some(_) => ids,
            None => self.unknown_in(session, ids).await?,
        };
        let mut fresh = Vec::new();
        let mut outcomes = Vec::with_capacity(events.len());
        for event in events.iter() {
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
        let mut numbering = Numbering::new();
        if !fresh.is_empty() {
            let remembered = guess.as_ref().unwrap_or(&numbering);
            numbering = self.tell_in(session, &fresh, remembered, *now).await?;
        }
        Ok((outcomes, numbering))
    }

    /// Those of some events that were never applied. An insert that fails would end the transaction.
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
        remembered: &Numbering,
        now: Timestamp,
    ) -> MongoResult<Numbering> {
        let mut arrivals: HashMap<&UserId, i64> = HashMap::new();
        for notice in fresh.iter().flat_map(|entry| &entry.notices) {
            *arrivals.entry(&notice.user_id).or_default() += 1;
        }
        // The counters first: who collides learns it before the larger part of the work.
        let mut last = self.advance_in(session, arrivals, remembered).await?;
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
        let last = last.into_iter();
        Ok(last.map(|(user, number)| (user.clone(), number)).collect())
    }

    /// Adds to the counter of each user who is not deleted, and returns where their numbering stood
    /// before: as `remembered`, or as it is read. Who is deleted meanwhile has another counter than the one
    /// read here: a collision.
    async fn advance_in<'a>(
        &self,
        session: &mut ClientSession,
        arrivals: HashMap<&'a UserId, i64>,
        remembered: &Numbering,
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
                    Some(number) => doc! {
                        "q": {"_id": user_id, "sequence": number, "deleted_at": null},
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
            return Err(Error::custom(GuessedWrong));
        }
        Ok(before)
    }
}
