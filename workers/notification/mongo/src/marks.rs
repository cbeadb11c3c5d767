//! Marks and removes notifications inside a transaction, and adjusts the counts with them. It never
//! changes the count of a deleted user, which stays 0.

use std::collections::HashMap;

use bson::doc;
use contract::id::{NotificationId, UserId};
use jiff::Timestamp;
use mongo::to_bson;
use mongodb::ClientSession;
use mongodb::error::Result as MongoResult;
use notifications::store::{Change, Expected};

use super::document::NotificationDocument;
use super::store::MongoNotifications;

impl MongoNotifications {
    pub(super) async fn set_read_in(
        &self,
        session: &mut ClientSession,
        user: &UserId,
        id: &NotificationId,
        read: bool,
        expected: Expected,
    ) -> MongoResult<Change> {
        let mut found = match self.find_in(session, user, id, expected).await? {
            Ok(found) => found,
            Err(change) => return Ok(change),
        };
        if found.read != read {
            found.read = read;
            self.notifications
                .update_one(doc! {"_id": id.as_str()}, doc! {"$set": {"read": read}})
                .session(&mut *session)
                .await?;
            let step = if read { -1 } else { 1 };
            self.count_unread(session, user, step).await?;
        }
        Ok(Change::Done(found.into()))
    }

    /// The notification if it may be changed, otherwise the answer to give.
    async fn find_in(
        &self,
        session: &mut ClientSession,
        user: &UserId,
        id: &NotificationId,
        expected: Expected,
    ) -> MongoResult<Result<NotificationDocument, Change>> {
        let query = doc! {"_id": id.as_str(), "user_id": user.as_str()};
        let found = self.notifications.find_one(query).session(session).await?;
        Ok(match found {
            None => Err(Change::Missing),
            Some(found) if !expected.includes(found.read) => Err(Change::Unexpected(found.into())),
            Some(found) => Ok(found),
        })
    }

    pub(super) async fn delete_in(
        &self,
        session: &mut ClientSession,
        user: &UserId,
        id: &NotificationId,
        expected: Expected,
    ) -> MongoResult<Change> {
        let found = match self.find_in(session, user, id, expected).await? {
            Ok(found) => found,
            Err(change) => return Ok(change),
        };
        self.notifications
            .delete_one(doc! {"_id": id.as_str()})
            .session(&mut *session)
            .await?;
        if !found.read {
            self.count_unread(session, user, -1).await?;
        }
        Ok(Change::Done(found.into()))
    }

    pub(super) async fn count_unread(
        &self,
        session: &mut ClientSession,
        user: &UserId,
        step: i64,
    ) -> MongoResult<()> {
        let living = doc! {"_id": user.as_str(), "deleted_at": null};
        self.counters
            .update_one(living, doc! {"$inc": {"unread": step}})
            .session(session)
            .await?;
        Ok(())
    }

    pub(super) async fn purge_in(
        &self,
        session: &mut ClientSession,
        now: Timestamp,
        limit: usize,
    ) -> MongoResult<usize> {
        let mut expired = self
            .notifications
            .find(doc! {"expires_at": {"$lte": to_bson(now)}})
            .sort(doc! {"expires_at": 1})
            .limit(i64::try_from(limit).unwrap_or(i64::MAX))
            .session(&mut *session)
            .await?;
        let mut ids = Vec::new();
        let mut users: HashMap<UserId, (i64, i64)> = HashMap::new();
        while let Some(document) = expired.next(session).await.transpose()? {
            let (unread, purged) = users.entry(document.user_id).or_default();
            *unread += i64::from(!document.read);
            *purged = document.sequence.max(*purged);
            ids.push(document.id.to_string());
        }
        if ids.is_empty() {
            return Ok(0);
        }
        let updates = users.iter().map(|(user, (unread, purged))| {
            doc! {
                "q": {"_id": user.as_str(), "deleted_at": null},
                "u": {"$inc": {"unread": -unread}, "$max": {"purged": purged}},
            }
        });
        self.update_counters(session, updates.collect()).await?;
        let count = ids.len();
        self.notifications
            .delete_many(doc! {"_id": {"$in": ids}})
            .session(session)
            .await?;
        Ok(count)
    }
}
