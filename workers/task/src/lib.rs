//! The task worker: tasks, their history, and the relay of their events.
//!
//! `http` parses, `domain` decides, `store` keeps a task together with the event of its change, and
//! the relay takes the events to the broker. [`attachments`] takes files in before the task that
//! lists them, and lets them go after it. `consumer` hears of deleted users, and [`erasure`] takes
//! them out of the tasks. What it must never do: publish from a handler, answer before a change is
//! durable, or wait for the broker to answer. `main` and the composition root call [`run`].

mod http;

pub mod attachments;
pub mod consumer;
pub mod erasure;

pub mod domain;

pub mod store;

mod upkeep;

#[cfg(feature = "servers")]
mod config;
#[cfg(feature = "servers")]
pub use config::{Config, DEFAULT_PORT};

use std::sync::Arc;

use async_trait::async_trait;
use shared::bus::Bus;
#[cfg(feature = "servers")]
use shared::bus::refill::Refiller;
use shared::http::Service;
use shared::http::serve::{Dependency, Readiness, serve};
use shared::relay::{Relay, RelayHandle};
use shared::supervise::{CancellationToken, TaskTracker, keep_running};
use shared::time::{Clock, SystemClock};
use shared::worker::{Settings, dependency};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use attachments::Attachments;
use erasure::Eraser;
use store::TaskStore;
use store::files::FileStore;

/// What the handlers share. No bus: they hint what they committed, and only the relay publishes.
struct App {
    store: Arc<dyn TaskStore>,
    attachments: Attachments,
    relay: RelayHandle,
    clock: Arc<dyn Clock>,
}

/// What the worker stands on.
pub struct Adapters {
    pub store: Arc<dyn TaskStore>,
    pub files: Arc<dyn FileStore>,
    pub bus: Arc<dyn Bus>,
}

/// Serves with the servers that `config` names. See [`run_on`].
#[cfg(feature = "servers")]
pub async fn run(
    listener: TcpListener,
    config: Config,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let bus = shared::bus::rabbit::RabbitBus::new(&config.amqp_url).map_err(anyhow::Error::msg)?;
    let bus = Arc::new(bus);
    let store = store::mongo::MongoTaskStore::connect(&config.mongo).await?;
    let refiller = Refiller::new(bus.clone(), Arc::new(store.outbox()), "tasks");
    let adapters = Adapters {
        store: Arc::new(store),
        files: Arc::new(store::mongo::files::GridFsFiles::connect(&config.mongo).await?),
        bus,
    };
    let max_file_bytes = config.max_file_bytes;
    let serving = run_on(
        listener,
        config.settings,
        max_file_bytes,
        adapters,
        shutdown,
    );
    refiller.beside(serving).await
}

/// Serves until `shutdown`, and returns when everything has ended. A store or a broker that is away
/// ends nothing: the worker is live, ready when the store is there, and events wait in the store.
pub async fn run_on(
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
        Dependencies {
            store: store.clone(),
            bus: bus.clone(),
        },
        registry,
    );

    let tasks = TaskTracker::new();
    // The relay outlives the last request, whose event it is to publish.
    let served = CancellationToken::new();
    let end = served.clone();
    tasks.spawn(keep_running("relay", served.clone(), move || {
        relay.clone().run(end.clone())
    }));
    let (consumer, end) = (Arc::new(consumer), shutdown.clone());
    tasks.spawn(keep_running("consumer", shutdown.clone(), move || {
        consumer.clone().run(bus.clone(), end.clone())
    }));
    let (eraser, end) = (Arc::new(eraser), shutdown.clone());
    tasks.spawn(keep_running("eraser", shutdown.clone(), move || {
        eraser.clone().run(end.clone())
    }));
    let (of, end) = (store.clone(), shutdown.clone());
    tasks.spawn(keep_running("attachments", shutdown.clone(), move || {
        attachments.clone().run(of.clone(), end.clone())
    }));
    let end = shutdown.clone();
    tasks.spawn(keep_running("upkeep", shutdown.clone(), move || {
        upkeep::run(store.clone(), clock.clone(), end.clone())
    }));

    serve(
        listener,
        service,
        settings.limits,
        shutdown,
        CancellationToken::new(),
    )
    .await;
    served.cancel();
    tasks.close();
    tasks.wait().await;
    Ok(())
}

struct Dependencies {
    store: Arc<dyn TaskStore>,
    bus: Arc<dyn Bus>,
}

#[async_trait]
impl Readiness for Dependencies {
    async fn dependencies(&self) -> Vec<Dependency> {
        let (store, bus) = tokio::join!(
            dependency(self.store.name(), true, self.store.ready()),
            // Without the broker every request is answered, and the events wait.
            dependency(self.bus.name(), false, self.bus.ping()),
        );
        vec![store, bus]
    }
}
