//! Reads everything, page by page, for an export. It never writes. The export of the platform in one
//! process calls it.

use contract::id::{NotificationId, UserId};
use notifications::store::transfer::{AppliedEvent, CounterRecord, NotificationRecord};
use sqlite::rusqlite::{self, Row, params};
use sqlite::{parsed, time};
use stores::StoreError;

use super::lists::notification;
use super::store::SqliteNotifications;

impl SqliteNotifications {
    /// A page of notifications, by id, after `after`.
    pub async fn notifications(
        &self,
        after: Option<NotificationId>,
        limit: usize,
    ) -> Result<Vec<NotificationRecord>, StoreError> {
        let after = after.map(|id| id.to_string()).unwrap_or_default();
        let statement = "SELECT * FROM notifications WHERE id > ?1 ORDER BY id LIMIT ?2";
        self.page(statement, after, limit, |row| {
            notification(row).map(NotificationRecord::from)
        })
        .await
    }

    /// A page of counters, by user, after `after`.
    pub async fn counters(
        &self,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<CounterRecord>, StoreError> {
        let after = after.map(|id| id.to_string()).unwrap_or_default();
        let statement = "SELECT * FROM counters WHERE user_id > ?1 ORDER BY user_id LIMIT ?2";
        self.page(statement, after, limit, |row| {
            let deleted_at: Option<i64> = row.get("deleted_at")?;
            Ok(CounterRecord {
                user_id: parsed(row, "user_id", UserId::parse)?,
                sequence: row.get("sequence")?,
                unread: row.get("unread")?,
                purged: row.get("purged")?,
                deleted_at: deleted_at.map(|_| time(row, "deleted_at")).transpose()?,
            })
        })
        .await
    }

    /// A page of applied events, by id, after `after`.
    pub async fn applied_events(
        &self,
        after: Option<String>,
        limit: usize,
    ) -> Result<Vec<AppliedEvent>, StoreError> {
        let after = after.unwrap_or_default();
        let statement = "SELECT * FROM processed WHERE event_id > ?1 ORDER BY event_id LIMIT ?2";
        self.page(statement, after, limit, |row| {
            Ok(AppliedEvent {
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
