//! Reads a user's notifications. Each page scans one range of one index, no matter how many
//! notifications come before the page or do not match its filter. It never writes.

use bson::{Document, doc};
use contract::id::UserId;
use contract::page::PageRequest;
use futures_util::TryStreamExt;
use mongo::to_bson;
use notifications::domain::{Kind, Notification};
use notifications::store::{Cursor, Filter};
use stores::StoreError;

use super::document::NotificationDocument;
use super::store::MongoNotifications;

impl MongoNotifications {
    pub(super) async fn list_page(
        &self,
        user: &UserId,
        filter: Filter,
        page: &PageRequest<Cursor>,
    ) -> Result<Vec<Notification>, StoreError> {
        // Without a filter, all values are listed too: then the index yields each combination in order,
        // and the server merges these few streams as it reads.
        let read = filter.read.map_or(vec![false, true], |read| vec![read]);
        let kinds = filter.kind.map_or(Kind::ALL.to_vec(), |kind| vec![kind]);
        let kinds: Vec<_> = kinds.into_iter().map(Kind::as_str).collect();
        let mut query =
            doc! {"user_id": user.as_str(), "read": {"$in": read}, "type": {"$in": kinds}};
        if let Some(after) = &page.after {
            let time = to_bson(after.created_at);
            // Excludes the notifications of that same time that earlier pages had. Not written as an
            // `$or` of what follows: then the server may choose to read everything and sort it.
            query.insert("created_at", doc! {"$lte": time});
            let on_earlier_pages = doc! {"created_at": time, "_id": {"$gte": &after.id}};
            query.insert("$nor", [on_earlier_pages].to_vec());
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
