//! What this worker does with events: tells people of tasks, and forgets people who are gone.

use std::sync::Arc;

use async_trait::async_trait;
use contract::event::{EventType, Poison, UserDeleted};
use events::bus::{Bus, Queue};
use events::consumer::{Handler, Outcome};
use jiff::Timestamp;
use prometheus::Registry;
use runtime::time::Clock;
use stores::StoreError;

use crate::domain::{Entry, Event, TaskEvent};
use crate::live;
use crate::store::NotificationStore;

/// What this worker consumes.
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

/// The only consumer of the notification queues.
pub type Consumer = events::consumer::Consumer<Notifier>;

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
        // Of duplicates too, and before they are acknowledged: whoever applied them may have died before
        // it could.
        live::hint(self.bus.as_ref(), events).await;
        Ok(outcomes)
    }
}

fn read(queue: EventType, body: &[u8], now: Timestamp) -> Result<(Timestamp, Event), Poison> {
    match queue {
        EventType::TaskCreated | EventType::TaskUpdated | EventType::TaskDeleted => {
            let event = TaskEvent::parse(body, queue)?;
            Ok((event.time, Event::Task(Entry::new(&event, now))))
        }
        EventType::UserDeleted => {
            let event = UserDeleted::read(body)?;
            Ok((event.at, Event::UserDeleted(event.user_id)))
        }
    }
}
