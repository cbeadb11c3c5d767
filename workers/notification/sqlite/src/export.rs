//! Reads everything, page by page, for another store.

use contract::id::{NotificationId, UserId};
use notifications::store::transfer::{Applied, Count, Told};
use sqlite::rusqlite::{self, Row, params};
use sqlite::{parsed, time};
use stores::StoreError;

use super::SqliteNotifications;
use super::lists::notification;

impl SqliteNotifications {
    /// Notifications by id, behind `after`.
    pub async fn told(
        &self,
        after: Option<NotificationId>,
        limit: usize,
    ) -> Result<Vec<Told>, StoreError> {
        let after = after.map(|id| id.to_string()).unwrap_or_default();
        let statement = "SELECT * FROM notifications WHERE id > ?1 ORDER BY id LIMIT ?2";
        self.page(statement, after, limit, |row| {
            notification(row).map(Told::from)
        })
        .await
    }

    /// Counters by user, behind `after`.
    pub async fn counts(
        &self,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Count>, StoreError> {
        let after = after.map(|id| id.to_string()).unwrap_or_default();
        let statement = "SELECT * FROM counters WHERE user_id > ?1 ORDER BY user_id LIMIT ?2";
        self.page(statement, after, limit, |row| {
            let deleted_at: Option<i64> = row.get("deleted_at")?;
            Ok(Count {
                user_id: parsed(row, "user_id", UserId::parse)?,
                sequence: row.get("sequence")?,
                unread: row.get("unread")?,
                purged: row.get("purged")?,
                deleted_at: deleted_at.map(|_| time(row, "deleted_at")).transpose()?,
            })
        })
        .await
    }

    /// Applied events by id, behind `after`.
    pub async fn applied(
        &self,
        after: Option<String>,
        limit: usize,
    ) -> Result<Vec<Applied>, StoreError> {
        let after = after.unwrap_or_default();
        let statement = "SELECT * FROM processed WHERE event_id > ?1 ORDER BY event_id LIMIT ?2";
        self.page(statement, after, limit, |row| {
            Ok(Applied {
                event_id: row.get("event_id")?,
                at: time(row, "at")?,
            })
        })
        .await
    }

    async fn page<T: Send + 'static>(
        &self,
        statement: &'static str,
        after: String,
        limit: usize,
        read: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        self.database
            .read("export notifications", move |connection| {
                connection
                    .prepare_cached(statement)?
                    .query_map(params![after, limit], read)?
                    .collect()
            })
            .await
    }
}
