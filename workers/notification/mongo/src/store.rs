//! The store: its collections, and the sequence numbers it remembers between batches. The other
//! modules add its operations.

use bson::{Document, doc};
use mongodb::error::{Error, Result as MongoResult};
use mongodb::{ClientSession, Collection, Database};

use super::answers::AnswersDocument;
use super::document::{CounterDocument, NotificationDocument};
use super::remembered::RememberedSequences;

/// Notifications in one database. Clones share connections and remembered sequence numbers.
#[derive(Clone)]
pub struct MongoNotifications {
    pub(super) database: Database,
    pub(super) notifications: Collection<NotificationDocument>,
    pub(super) processed: Collection<Document>,
    pub(super) counters: Collection<CounterDocument>,
    pub(super) answers: Collection<AnswersDocument>,
    pub(super) remembered: RememberedSequences,
}

impl MongoNotifications {
    pub fn new(database: Database) -> Self {
        Self {
            remembered: RememberedSequences::default(),
            notifications: database.collection("notifications"),
            processed: database.collection("processed"),
            counters: database.collection("counters"),
            answers: database.collection("answers"),
            database,
        }
    }

    /// Updates any number of counters with one command, because a round trip for each would make
    /// large batches slow. Returns how many counters were matched or inserted.
    pub(super) async fn update_counters(
        &self,
        session: &mut ClientSession,
        updates: Vec<Document>,
    ) -> MongoResult<usize> {
        if updates.is_empty() {
            return Ok(0);
        }
        let command = doc! {"update": self.counters.name(), "updates": updates, "ordered": true};
        let reply = self.database.run_command(command).session(session).await?;
        // A command that failed in part still answers `ok`.
        match reply.get_array("writeErrors") {
            Ok(errors) if !errors.is_empty() => Err(Error::custom(format!(
                "counters were not updated: {errors:?}"
            ))),
            _ => Ok(usize::try_from(reply.get_i32("n").unwrap_or_default()).unwrap_or_default()),
        }
    }
}
