//! Reads a user's notifications: each page is a walk along one index, from where it starts to where
//! it ends, however many notifications lie before it or do not match.

use bson::{Document, doc};
use contract::id::UserId;
use contract::page::PageRequest;
use futures_util::TryStreamExt;
use mongo::{self, to_bson};
use notifications::domain::{Kind, Notification};
use notifications::store::{Filter, Key};
use stores::StoreError;

use super::MongoNotifications;
use super::document::NotificationDocument;

impl MongoNotifications {
    pub(super) async fn list_page(
        &self,
        user: &UserId,
        filter: Filter,
        page: &PageRequest<Key>,
    ) -> Result<Vec<Notification>, StoreError> {
        // Every value is named, also without a filter: then the index gives each combination in
        // order, and the server merges the few of them as it reads.
        let read = filter.read.map_or(vec![false, true], |read| vec![read]);
        let kinds = filter.kind.map_or(Kind::ALL.to_vec(), |kind| vec![kind]);
        let kinds: Vec<_> = kinds.into_iter().map(Kind::as_str).collect();
        let mut query =
            doc! {"user_id": user.as_str(), "read": {"$in": read}, "type": {"$in": kinds}};
        if let Some(after) = &page.after {
            let time = to_bson(after.created_at);
            // Without those of that time which came before. Not as an `$or` of what comes behind:
            // then the server may choose to read all of it and sort.
            query.insert("created_at", doc! {"$lte": time});
            let before = doc! {"created_at": time, "_id": {"$gte": &after.id}};
            query.insert("$nor", [before].to_vec());
        }
        let latest_first = doc! {"created_at": -1, "_id": -1};
        self.find("list", query, latest_first, page.limit + 1).await
    }

    pub(super) async fn find(
        &self,
        operation: &'static str,
        query: Document,
        order: Document,
        limit: usize,
    ) -> Result<Vec<Notification>, StoreError> {
        let notifications = self.notifications.clone();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let found: Vec<NotificationDocument> = mongo::run(operation, async move {
            let found = notifications.find(query).sort(order).limit(limit);
            found.await?.try_collect().await
        })
        .await?;
        Ok(found.into_iter().map(Notification::from).collect())
    }
}
