//! The task worker: tasks, their history, and the relay of their events.
//!
//! `http` parses, `domain` decides, `store` keeps a task together with the event of its change, and
//! the relay takes the events to the broker. [`attachments`] takes files in before the task that
//! lists them, and lets them go after it. `consumer` hears of deleted users, and [`erasure`] takes
//! them out of the tasks. What it must never do: publish from a handler, answer before a change is
//! durable, or wait for the broker to answer. The
//! composition roots call [`run`].

mod app;
mod http;

pub mod attachments;
pub mod consumer;
pub mod erasure;

pub mod domain;

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

use app::App;
use attachments::Attachments;
use erasure::Eraser;
use store::TaskStore;
use store::files::FileStore;

/// What the worker stands on.
pub struct Adapters {
    pub store: Arc<dyn TaskStore>,
    pub files: Arc<dyn FileStore>,
    pub bus: Arc<dyn Bus>,
}

/// Serves until `shutdown`, and returns when everything has ended. A store or a broker that is away
/// ends nothing: the worker is live, ready when the store is there, and events wait in the store.
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
    let noted = Arc::new(Notify::new());
    let consumer = consumer::new(store.clone(), clock.clone(), noted.clone(), &registry);
    let attachments = Attachments::new(files, clock.clone(), max_file_bytes);
    let eraser = Eraser::new(
        store.clone(),
        attachments.clone(),
        handle.clone(),
        clock.clone(),
        noted,
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
    // The relay outlives the last request, whose event it is to publish.
    worker.keep("relay", &worker.served, move |end| relay.clone().run(end));
    let consumer = Arc::new(consumer);
    worker.keep("consumer", &worker.shutdown, move |end| {
        consumer.clone().run(bus.clone(), end)
    });
    let eraser = Arc::new(eraser);
    worker.keep("eraser", &worker.shutdown, move |end| {
        eraser.clone().run(end)
    });
    let listed_by = store.clone();
    worker.keep("attachments", &worker.shutdown, move |end| {
        attachments.clone().run(listed_by.clone(), end)
    });
    worker.keep("upkeep", &worker.shutdown, move |end| {
        upkeep::run(store.clone(), clock.clone(), end)
    });
    worker.serve(listener, service, settings.limits).await;
    Ok(())
}
