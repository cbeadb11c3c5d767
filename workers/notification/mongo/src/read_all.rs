//! Marks all notifications of a user as read, in steps: one transaction for everything would hold up
//! the user's events for too long.

use bson::doc;
use contract::id::UserId;
use futures_util::FutureExt;
use jiff::Timestamp;
use mongodb::ClientSession;
use mongodb::error::Result as MongoResult;
use notifications::store::NotificationStore;
use notifications::store::read_all::{ReadAll, Step};
use stores::{Idempotency, Once, StoreError};

use super::answers::{Answer, AnswersDocument, Lookup};
use super::store::MongoNotifications;

/// How many notifications one transaction marks. It locks the user's counter meanwhile.
const MARK_BATCH: i64 = 500;

impl MongoNotifications {
    pub(super) async fn read_all(&self, user: &UserId) -> Result<u64, StoreError> {
        // Notifications that arrive meanwhile stay unread, so the loop ends.
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
            if marked < MARK_BATCH {
                return Ok(updated);
            }
        }
    }

    /// With a key, each transaction marks notifications and stores the answer so far. So no request has
    /// to be refused because another one is in flight.
    pub(super) async fn read_all_once(
        &self,
        user: &UserId,
        key: &Idempotency,
        now: Timestamp,
    ) -> Result<Once<u64, u64>, StoreError> {
        let mut read_all = ReadAll::default();
        loop {
            let (this, wanted) = (self.clone(), (user.clone(), key.clone(), now));
            let step = mongo::run("set_all_read", async move {
                this.transaction(u32::MAX, wanted, |this, session, (user, key, now)| {
                    this.read_all_once_in(session, user, key, *now).boxed()
                })
                .await
            });
            let step = step.await?;
            if let Some(answer) = step.and_then(|step| read_all.after(step)) {
                return Ok(answer);
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
        let found = self.answers.find_one(this_user.clone());
        let found = found.session(&mut *session).await?;
        let mut document = found.unwrap_or_else(|| AnswersDocument::new(user));
        let (first, mut answer) = match document.find(key, now) {
            Lookup::DifferentBody => return Ok(Step::DifferentBody),
            Lookup::Found(answer) => (false, answer),
            Lookup::Unknown => {
                let counter = self.counters.find_one(this_user.clone());
                let counter = counter.session(&mut *session).await?;
                let up_to = counter.map_or(0, |counter| counter.sequence);
                (true, Answer::new(key, up_to, now))
            }
        };
        if !answer.done {
            let marked = self.read_some_in(session, user, answer.up_to).await?;
            answer.updated += marked;
            answer.done = marked < MARK_BATCH;
            document.put(answer.clone(), now);
            self.answers
                .replace_one(this_user, &document)
                .upsert(true)
                .session(session)
                .await?;
        }
        Ok(Step::Marked {
            first,
            updated: answer.updated.unsigned_abs(),
            done: answer.done,
        })
    }

    /// Marks some unread notifications up to a sequence number and returns how many; 0 when none is
    /// left.
    async fn read_some_in(
        &self,
        session: &mut ClientSession,
        user: &UserId,
        up_to: i64,
    ) -> MongoResult<i64> {
        let mut unread = self
            .notifications
            // Not `$lte`: with it, the server might choose the index by sequence, and scan all
            // notifications that are read, too.
            .find(doc! {
                "user_id": user.as_str(), "read": false, "sequence": {"$not": {"$gt": up_to}},
            })
            .limit(MARK_BATCH)
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
