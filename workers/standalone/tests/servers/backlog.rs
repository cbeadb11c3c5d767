//! The work that is not done yet between a change and its notification, read from the two servers. The
//! proofs use it too.

use std::collections::BTreeSet;
use std::time::Duration;

use bson::{Document, doc};
use events::bus::DEAD_LETTER;
use futures_util::TryStreamExt;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use mongodb::options::{DatabaseOptions, ReadConcern};
use mongodb::{Client, Database};
use testkit::eventually;

/// Every queue, the dead letters last.
fn queues() -> Vec<&'static str> {
    let topology = process::topology();
    let queues = topology.queues().iter().map(|queue| queue.name);
    queues.chain([DEAD_LETTER]).collect()
}

/// Long enough for a broker that was killed to recover.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Backlog {
    database: Database,
    amqp_url: String,
}

impl Backlog {
    pub(crate) async fn of(mongodb_uri: &str, database: &str, amqp_url: &str) -> Self {
        let client = Client::with_uri_str(mongodb_uri)
            .await
            .expect("a usable URI");
        // Like the workers: a write counts only when the majority has it.
        let read_concern = Some(ReadConcern::majority());
        let options = DatabaseOptions::builder()
            .read_concern(read_concern)
            .build();
        let database = client.database_with_options(database, options);
        Self {
            database,
            amqp_url: amqp_url.to_owned(),
        }
    }

    /// Waits until every change is published and every event is applied.
    pub(crate) async fn drained(&self) {
        eventually(PATIENCE, async || self.under_way().await).await;
    }

    /// `Ok` if every change is published and every event is applied; otherwise an error that names what
    /// is not.
    pub(crate) async fn under_way(&self) -> Result<(), String> {
        let pending = self.pending().await;
        if pending > 0 {
            return Err(format!("{pending} documents have pending events"));
        }
        let events = self.ids("task_events").await;
        let processed = self.ids("processed").await;
        if let Some(missing) = events.difference(&processed).next() {
            return Err(format!("{missing} was published and not yet consumed"));
        }
        let ready = self.ready().await?;
        match ready.iter().find(|(_, messages)| *messages > 0) {
            Some((queue, messages)) => Err(format!("{messages} messages are in {queue}")),
            None => Ok(()),
        }
    }

    /// Asserts the same after everything has stopped, when no consumer can hold a message any more.
    pub(crate) async fn is_empty(&self) {
        assert_eq!(self.pending().await, 0, "documents with pending events");
        let ready = self.ready().await.expect("the broker answers");
        assert!(
            ready.iter().all(|(_, messages)| *messages == 0),
            "{ready:?}"
        );
    }

    /// Tasks and accounts with unpublished events.
    async fn pending(&self) -> u64 {
        let mut pending = 0;
        for name in ["tasks", "users"] {
            let collection = self.database.collection::<Document>(name);
            let counted = collection
                .count_documents(doc! {"pending.0": {"$exists": true}})
                .await;
            pending += counted.expect("MongoDB answers");
        }
        pending
    }

    async fn ids(&self, collection: &str) -> BTreeSet<String> {
        let collection = self.database.collection::<Document>(collection);
        let found = collection.find(doc! {}).projection(doc! {"_id": 1}).await;
        let documents: Vec<_> = found
            .expect("MongoDB answers")
            .try_collect()
            .await
            .expect("MongoDB answers");
        let id = |document: &Document| document.get_str("_id").expect("a text").to_owned();
        documents.iter().map(id).collect()
    }

    /// How many messages wait in each queue, without those that a consumer holds.
    async fn ready(&self) -> Result<Vec<(&'static str, u32)>, String> {
        let text = |error: lapin::Error| error.to_string();
        let properties = ConnectionProperties::default();
        let connection = Connection::connect(&self.amqp_url, properties)
            .await
            .map_err(text)?;
        let channel = connection.create_channel().await.map_err(text)?;
        let mut ready: Vec<_> = queues().into_iter().map(|queue| (queue, 0)).collect();
        for (queue, messages) in &mut ready {
            let options = QueueDeclareOptions {
                passive: true,
                ..Default::default()
            };
            let declared = channel.queue_declare((*queue).into(), options, FieldTable::default());
            *messages = declared.await.map_err(text)?.message_count();
        }
        connection.close(200, "done".into()).await.map_err(text)?;
        Ok(ready)
    }
}
