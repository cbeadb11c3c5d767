//! What this worker does with events: tells people of tasks, and forgets people who are gone.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use prometheus::Registry;
use shared::bus::{Queue, TASK_QUEUES};
use shared::consumer::{Handler, Outcome};
use shared::store::StoreError;
use shared::time::Clock;

use crate::domain::{Entry, TaskEvent};
use crate::store::NotificationStore;

/// The only consumer of the notification queues.
pub type Consumer = shared::consumer::Consumer<Notifier>;

pub struct Notifier {
    store: Arc<dyn NotificationStore>,
    clock: Arc<dyn Clock>,
}

pub fn new(
    store: Arc<dyn NotificationStore>,
    clock: Arc<dyn Clock>,
    registry: &Registry,
) -> Consumer {
    let notifier = Notifier {
        store,
        clock: clock.clone(),
    };
    Consumer::new(notifier, clock, registry)
}

#[async_trait]
impl Handler for Notifier {
    type Event = Entry;

    fn queues(&self) -> &'static [Queue] {
        &TASK_QUEUES
    }

    async fn prepare(&self) -> Result<(), StoreError> {
        self.store.prepare().await
    }

    fn read(&self, queue: Queue, body: &[u8]) -> Result<(Timestamp, Entry), String> {
        let event = TaskEvent::parse(body, queue.event_type).map_err(|why| why.to_string())?;
        Ok((event.time, Entry::new(&event, self.clock.now())))
    }

    async fn apply(&self, entries: &[Entry]) -> Result<Vec<Outcome>, StoreError> {
        self.store.apply(entries, self.clock.now()).await
    }
}
