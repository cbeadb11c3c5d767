//! Marks all that a user has, in steps: a transaction that marked everything would keep the user's
//! events waiting for as long as that takes.

use bson::doc;
use contract::id::UserId;
use futures_util::FutureExt;
use jiff::Timestamp;
use mongodb::ClientSession;
use mongodb::error::Result as MongoResult;
use notifications::store::NotificationStore;
use stores::{Idempotency, Once, StoreError};

use super::MongoNotifications;
use super::answers::{Answer, AnswersDocument, Known};

/// How many one transaction marks: it holds the user's counter while it does.
const MARKED_AT_ONCE: i64 = 500;

/// Where a read-all with a key stands after a step.
enum Step {
    OtherBody,
    Marked {
        /// This step was the key's first.
        began: bool,
        /// In all steps.
        updated: i64,
        done: bool,
    },
}

impl MongoNotifications {
    pub(super) async fn read_all(&self, user: &UserId) -> Result<u64, StoreError> {
        // What arrives meanwhile stays unread, so this ends.
        let up_to = self.counter(user).await?.sequence.cast_signed();
        let mut updated = 0;
        loop {
            let (this, wanted) = (self.clone(), (user.clone(), up_to));
            let marked = mongo::run("set_all_read", async move {
                this.transaction(u32::MAX, wanted, |this, session, (user, up_to)| {
                    this.read_some_in(session, user, *up_to).boxed()
                })
                .await
            });
            let marked = marked.await?.unwrap_or_default();
            updated += marked.unsigned_abs();
            if marked < MARKED_AT_ONCE {
                return Ok(updated);
            }
        }
    }

    /// With a key, what is marked and what will be answered are one write. Whoever sends the key
    /// again, at the same moment or after a crash, takes part in the same read-all and gets the same
    /// answer; so nobody has to be told that it is in flight.
    pub(super) async fn read_all_once(
        &self,
        user: &UserId,
        key: &Idempotency,
        now: Timestamp,
    ) -> Result<Once<u64, u64>, StoreError> {
        let mut began = false;
        loop {
            let (this, wanted) = (self.clone(), (user.clone(), key.clone(), now));
            let step = mongo::run("set_all_read", async move {
                this.transaction(u32::MAX, wanted, |this, session, (user, key, now)| {
                    this.read_all_once_in(session, user, key, *now).boxed()
                })
                .await
            });
            match step.await? {
                Some(Step::OtherBody) => return Ok(Once::Mismatch),
                Some(Step::Marked {
                    began: now,
                    updated,
                    done,
                }) => {
                    began |= now;
                    let updated = updated.unsigned_abs();
                    match (done, began) {
                        (true, true) => return Ok(Once::New(updated)),
                        (true, false) => return Ok(Once::Before(updated)),
                        (false, _) => {}
                    }
                }
                None => {}
            }
        }
    }

    async fn read_all_once_in(
        &self,
        session: &mut ClientSession,
        user: &UserId,
        key: &Idempotency,
        now: Timestamp,
    ) -> MongoResult<Step> {
        let this_user = doc! {"_id": user.as_str()};
        let kept = self.answers.find_one(this_user.clone());
        let kept = kept.session(&mut *session).await?;
        let mut kept = kept.unwrap_or_else(|| AnswersDocument::new(user));
        let (began, mut answer) = match kept.find(key, now) {
            Known::OtherBody => return Ok(Step::OtherBody),
            Known::Yes(answer) => (false, answer),
            Known::No => {
                let counter = self.counters.find_one(this_user.clone());
                let counter = counter.session(&mut *session).await?;
                let up_to = counter.map_or(0, |counter| counter.sequence);
                (true, Answer::new(key, up_to, now))
            }
        };
        if !answer.done {
            let marked = self.read_some_in(session, user, answer.up_to).await?;
            answer.updated += marked;
            answer.done = marked < MARKED_AT_ONCE;
            kept.keep(answer.clone(), now);
            self.answers
                .replace_one(this_user, &kept)
                .upsert(true)
                .session(session)
                .await?;
        }
        Ok(Step::Marked {
            began,
            updated: answer.updated,
            done: answer.done,
        })
    }

    /// Marks some of the unread ones up to a sequence number; 0 when none is left.
    async fn read_some_in(
        &self,
        session: &mut ClientSession,
        user: &UserId,
        up_to: i64,
    ) -> MongoResult<i64> {
        let mut unread = self
            .notifications
            // Not `$lte`: that would offer the index by sequence, which passes by all that is read.
            .find(doc! {
                "user_id": user.as_str(), "read": false, "sequence": {"$not": {"$gt": up_to}},
            })
            .limit(MARKED_AT_ONCE)
            .session(&mut *session)
            .await?;
        let mut ids = Vec::new();
        while let Some(document) = unread.next(session).await.transpose()? {
            ids.push(document.id.to_string());
        }
        if ids.is_empty() {
            return Ok(0);
        }
        let count = ids.len() as i64;
        self.notifications
            .update_many(doc! {"_id": {"$in": ids}}, doc! {"$set": {"read": true}})
            .session(&mut *session)
            .await?;
        self.count_unread(session, user, -count).await?;
        Ok(count)
    }
}
