//! The task worker: tasks, their history, and the relay of their events.
//!
//! `http` parses, `domain` decides, `store` keeps a task together with the event of its change, and
//! the relay takes the events to the broker. What it must never do: publish from a handler, answer
//! before a change is durable, or wait for the broker to answer. `main` and the composition root
//! call [`run`].

mod http;

pub mod domain;

pub mod store;

mod config;

pub use config::{Config, DEFAULT_PORT};

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use shared::bus::Bus;
use shared::bus::rabbit::RabbitBus;
use shared::http::Service;
use shared::http::serve::{Dependency, Readiness, serve};
use shared::relay::{Relay, RelayHandle};
use shared::supervise::{CancellationToken, TaskTracker, keep_running};
use shared::time::{Clock, SystemClock};
use shared::worker::dependency;
use tokio::net::TcpListener;

use store::TaskStore;
use store::mongo::MongoTaskStore;

/// How long a deleted task's document is kept after its last event was published. An
/// `Idempotency-Key` lives in it for a day.
const TOMBSTONE_GRACE: Duration = Duration::from_secs(25 * 3600);
const PURGE_EVERY: Duration = Duration::from_secs(60);

/// What the handlers share. No bus: they hint what they committed, and only the relay publishes.
struct App {
    store: Arc<dyn TaskStore>,
    relay: RelayHandle,
    clock: Arc<dyn Clock>,
}

/// Serves until `shutdown`, and returns when everything has ended. A store or a broker that is away
/// ends nothing: the worker is live, ready when the store is there, and events wait in the store.
pub async fn run(
    listener: TcpListener,
    config: Config,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let store = Arc::new(MongoTaskStore::connect(&config.mongo).await?);
    let bus = Arc::new(RabbitBus::new(&config.amqp_url).map_err(anyhow::Error::msg)?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let registry = prometheus::Registry::new();
    let (relay, handle) = Relay::new(store.clone(), bus.clone(), clock.clone(), &registry);
    let app = App {
        store: store.clone(),
        relay: handle,
        clock: clock.clone(),
    };
    let settings = config.settings;
    let service = Service::new(
        "task",
        http::routes(),
        Arc::new(app),
        settings.signing_keys,
        Dependencies {
            store: store.clone(),
            bus,
        },
        registry,
    );

    // The relay outlives the last request, whose event it is to publish.
    let served = CancellationToken::new();
    let tasks = TaskTracker::new();
    let token = served.clone();
    tasks.spawn(keep_running("relay", served.clone(), move || {
        relay.clone().run(token.clone())
    }));
    let token = served.clone();
    tasks.spawn(keep_running(
        "keep the store in order",
        served.clone(),
        move || keep_in_order(store.clone(), clock.clone(), token.clone()),
    ));
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

/// Makes the store's indexes, whenever it can be reached, and then purges what was deleted long ago.
async fn keep_in_order(
    store: Arc<dyn TaskStore>,
    clock: Arc<dyn Clock>,
    ended: CancellationToken,
) -> anyhow::Result<()> {
    let work = async {
        store.prepare().await?;
        loop {
            store.purge(clock.now() - TOMBSTONE_GRACE).await?;
            tokio::time::sleep(PURGE_EVERY).await;
        }
    };
    tokio::select! {
        () = ended.cancelled() => Ok(()),
        failed = work => failed,
    }
}

struct Dependencies {
    store: Arc<dyn TaskStore>,
    bus: Arc<dyn Bus>,
}

#[async_trait]
impl Readiness for Dependencies {
    async fn dependencies(&self) -> Vec<Dependency> {
        let (store, bus) = tokio::join!(
            dependency("mongodb", true, self.store.ready()),
            // Without the broker every request is answered, and the events wait.
            dependency("rabbitmq", false, self.bus.ping()),
        );
        vec![store, bus]
    }
}
