//! What this worker does with events: notifies users about tasks, and removes what it holds of
//! deleted users. It never serves a request. The worker runs it until shutdown.

use std::sync::Arc;

use async_trait::async_trait;
use contract::event::{EventType, Poison, UserDeleted};
use events::bus::{Bus, Queue};
use events::consumer::{Handler, Outcome};
use jiff::Timestamp;
use prometheus::Registry;
use runtime::time::Clock;
use stores::StoreError;

use crate::domain::{Event, TaskEvent, TaskNotifications};
use crate::live;
use crate::store::NotificationStore;

/// The queues that this worker consumes.
pub const QUEUES: [Queue; 4] = [
    Queue {
        name: "task_created",
        event_type: EventType::TaskCreated,
    },
    Queue {
        name: "task_updated",
        event_type: EventType::TaskUpdated,
    },
    Queue {
        name: "task_deleted",
        event_type: EventType::TaskDeleted,
    },
    Queue {
        name: "notification.user_deleted",
        event_type: EventType::UserDeleted,
    },
];

/// The consumer of the notification queues; nothing else consumes them.
pub type Consumer = events::consumer::Consumer<Notifier>;

/// Applies each event to the store, then sends the hint that wakes streams.
pub struct Notifier {
    store: Arc<dyn NotificationStore>,
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
}

pub fn new(
    store: Arc<dyn NotificationStore>,
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    registry: &Registry,
) -> Consumer {
    let notifier = Notifier {
        store,
        bus,
        clock: clock.clone(),
    };
    Consumer::new(notifier, clock, registry)
}

#[async_trait]
impl Handler for Notifier {
    type Event = Event;

    fn queues(&self) -> &'static [Queue] {
        &QUEUES
    }

    async fn prepare(&self) -> Result<(), StoreError> {
        self.store.prepare().await
    }

    fn read(&self, queue: Queue, body: &[u8]) -> Result<(Timestamp, Event), String> {
        read(queue.event_type, body, self.clock.now()).map_err(|why| why.to_string())
    }

    async fn apply(&self, events: &[Event]) -> Result<Vec<Outcome>, StoreError> {
        let outcomes = self.store.apply(events, self.clock.now()).await?;
        // For duplicates too, and before the acknowledgement: the worker that applied them may have
        // died before it sent the hint.
        live::hint(self.bus.as_ref(), events).await;
        Ok(outcomes)
    }
}

fn read(queue: EventType, body: &[u8], now: Timestamp) -> Result<(Timestamp, Event), Poison> {
    match queue {
        EventType::TaskCreated | EventType::TaskUpdated | EventType::TaskDeleted => {
            let event = TaskEvent::parse(body, queue)?;
            Ok((event.time, Event::Task(TaskNotifications::new(&event, now))))
        }
        EventType::UserDeleted => {
            let event = UserDeleted::read(body)?;
            Ok((event.at, Event::UserDeleted(event.user_id)))
        }
    }
}
