//! The task worker: tasks, their history, and the relay of their events.
//!
//! `http` parses, `domain` decides, `store` keeps a task together with the event of its change, and
//! the relay takes the events to the broker. [`attachments`] stores files before the task that lists
//! them, and removes them after it. [`consumer`] learns of deleted users, and [`erasure`] erases them
//! from the tasks. `upkeep` creates indexes and removes what has expired.
//!
//! A handler must never publish, answer before a change is durable, or wait for the broker. The
//! composition roots call [`run`].

mod app;
pub mod attachments;
pub mod consumer;
pub mod domain;
pub mod erasure;
mod http;
pub mod store;
mod upkeep;

use std::sync::Arc;

use events::bus::Bus;
use events::readiness::StoreAndBus;
use events::relay::Relay;
use runtime::process::Settings;
use runtime::supervise::CancellationToken;
use runtime::time::{Clock, SystemClock};
use runtime::worker::Worker;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use web::Service;

use self::app::App;
use self::attachments::Attachments;
use self::erasure::Eraser;
use self::store::TaskStore;
use self::store::files::FileStore;

/// The adapters that the worker runs on.
pub struct Adapters {
    pub store: Arc<dyn TaskStore>,
    pub files: Arc<dyn FileStore>,
    pub bus: Arc<dyn Bus>,
}

/// Serves until `shutdown`, and returns when everything has ended. It survives the loss of the store
/// or the broker: the worker stays live, is ready whenever the store answers, and events wait in the
/// store for the broker.
pub async fn run(
    listener: TcpListener,
    settings: Settings,
    max_file_bytes: u64,
    Adapters { store, files, bus }: Adapters,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let registry = prometheus::Registry::new();
    let (relay, handle) = Relay::new(store.clone(), bus.clone(), clock.clone(), &registry);
    let wake_eraser = Arc::new(Notify::new());
    let consumer = consumer::new(store.clone(), clock.clone(), wake_eraser.clone(), &registry);
    let attachments = Attachments::new(files, clock.clone(), max_file_bytes);
    let eraser = Eraser::new(
        store.clone(),
        attachments.clone(),
        handle.clone(),
        clock.clone(),
        wake_eraser,
    );
    let app = App {
        store: store.clone(),
        attachments: attachments.clone(),
        relay: handle,
        clock: clock.clone(),
    };
    let service = Service::new(
        "task",
        http::routes(),
        Arc::new(app),
        settings.signing_keys,
        StoreAndBus {
            store: store.clone(),
            bus: bus.clone(),
        },
        registry,
    );

    let worker = Worker::new(shutdown);
    // The relay outlives the last request, because it must publish that request's event.
    worker.keep("relay", &worker.served, move |end| relay.clone().run(end));
    let consumer = Arc::new(consumer);
    worker.keep("consumer", &worker.shutdown, move |end| {
        consumer.clone().run(bus.clone(), end)
    });
    let eraser = Arc::new(eraser);
    worker.keep("eraser", &worker.shutdown, move |end| {
        eraser.clone().run(end)
    });
    let tasks = store.clone();
    worker.keep("attachments", &worker.shutdown, move |end| {
        attachments.clone().run(tasks.clone(), end)
    });
    worker.keep("upkeep", &worker.shutdown, move |end| {
        upkeep::run(store.clone(), clock.clone(), end)
    });
    worker.serve(listener, service, settings.limits).await;
    Ok(())
}
