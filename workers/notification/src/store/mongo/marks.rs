//! Marks and removes notifications inside a transaction, each time together with its count.

use std::collections::HashMap;

use bson::doc;
use jiff::Timestamp;
use mongodb::ClientSession;
use mongodb::error::Result as MongoResult;
use shared::id::{NotificationId, UserId};
use shared::mongo::to_bson;

use super::MongoNotifications;
use super::document::NotificationDocument;

/// How many one transaction marks: it holds the user's counter while it does.
const MARKED_AT_ONCE: i64 = 500;

impl MongoNotifications {
    pub(super) async fn set_read_in(
        &self,
        session: &mut ClientSession,
        user: &UserId,
        id: &NotificationId,
        read: bool,
    ) -> MongoResult<Option<NotificationDocument>> {
        let query = doc! {"_id": id.as_str(), "user_id": user.as_str()};
        let found = self
            .notifications
            .find_one(query.clone())
            .session(&mut *session);
        let Some(mut found) = found.await? else {
            return Ok(None);
        };
        if found.read != read {
            found.read = read;
            self.notifications
                .update_one(query, doc! {"$set": {"read": read}})
                .session(&mut *session)
                .await?;
            let step = if read { -1 } else { 1 };
            self.count_unread(session, user, step).await?;
        }
        Ok(Some(found))
    }

    /// Marks some of the unread ones up to a sequence number; 0 when none is left.
    pub(super) async fn read_some_in(
        &self,
        session: &mut ClientSession,
        user: &UserId,
        up_to: i64,
    ) -> MongoResult<usize> {
        let mut unread = self
            .notifications
            .find(doc! {"user_id": user.as_str(), "read": false, "sequence": {"$lte": up_to}})
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
        let count = ids.len();
        self.notifications
            .update_many(doc! {"_id": {"$in": ids}}, doc! {"$set": {"read": true}})
            .session(&mut *session)
            .await?;
        self.count_unread(session, user, -(count as i64)).await?;
        Ok(count)
    }

    pub(super) async fn delete_in(
        &self,
        session: &mut ClientSession,
        user: &UserId,
        id: &NotificationId,
    ) -> MongoResult<bool> {
        let query = doc! {"_id": id.as_str(), "user_id": user.as_str()};
        let found = self.notifications.find_one_and_delete(query);
        let found = found.session(&mut *session).await?;
        if found.as_ref().is_some_and(|found| !found.read) {
            self.count_unread(session, user, -1).await?;
        }
        Ok(found.is_some())
    }

    async fn count_unread(
        &self,
        session: &mut ClientSession,
        user: &UserId,
        step: i64,
    ) -> MongoResult<()> {
        self.counters
            .update_one(doc! {"_id": user.as_str()}, doc! {"$inc": {"unread": step}})
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
                "q": {"_id": user.as_str()},
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
