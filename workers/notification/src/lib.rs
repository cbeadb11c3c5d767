//! The notification worker: consumes task events, keeps each user's notifications, and serves them
//! as lists and as live streams. What deleted users were told it removes.
//!
//! [`consumer`] takes events from the broker and [`domain`] decides who is told what; the
//! [`store`] keeps it. [`http`] reads the store, and [`live`] sends what it gains. The HTTP side
//! never sees the broker, the consumer never sees a request.

pub mod consumer;
pub mod domain;
pub mod http;
pub mod live;
pub mod redrive;
pub mod store;

#[cfg(feature = "servers")]
pub mod config;
#[cfg(feature = "servers")]
pub use config::Config;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use prometheus::{IntGauge, Registry};
use shared::bus::Bus;
use shared::http::serve::{Dependency, Readiness};
use shared::http::{Service, serve};
use shared::store::StoreError;
use shared::supervise::{CancellationToken, TaskTracker, keep_running};
use shared::telemetry::register;
use shared::time::{Clock, SystemClock};
use shared::worker::{Settings, dependency};
use tokio::net::TcpListener;

use http::App;
use live::Hub;
use store::NotificationStore;

const PURGE_EVERY: Duration = Duration::from_secs(60);
/// A look costs an empty index.
const FORGET_EVERY: Duration = Duration::from_secs(1);
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// What one step removes: some milliseconds of work, and nobody's events wait for it.
const AT_ONCE: usize = 500;

/// What the worker stands on.
pub struct Adapters {
    pub store: Arc<dyn NotificationStore>,
    pub bus: Arc<dyn Bus>,
}

/// Serves with the servers that `config` names. See [`run_on`].
#[cfg(feature = "servers")]
pub async fn run(
    listener: TcpListener,
    config: Config,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let database = shared::mongo::connect(&config.mongo).await?;
    let bus = shared::bus::rabbit::RabbitBus::new(&config.amqp_url).map_err(anyhow::Error::msg)?;
    let adapters = Adapters {
        store: Arc::new(store::mongo::MongoNotifications::new(database)),
        bus: Arc::new(bus),
    };
    run_on(listener, config.settings, adapters, shutdown).await
}

/// Serves on `listener` until `shutdown`, then drains. Starts with every server away.
pub async fn run_on(
    listener: TcpListener,
    settings: Settings,
    Adapters { store, bus }: Adapters,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let registry = Registry::new();

    let streams = IntGauge::new("sse_streams", "Live streams that are open.");
    let dead_letters = IntGauge::new(
        "dead_letters",
        "Messages that nobody could use, at last count.",
    );
    let dead_letters = register(&registry, dead_letters);
    let hub = Hub::new(register(&registry, streams));
    let consumer = Arc::new(consumer::new(
        store.clone(),
        bus.clone(),
        clock.clone(),
        &registry,
    ));
    let stopping = CancellationToken::new();
    let app = Arc::new(App {
        store: store.clone(),
        hub: hub.clone(),
        clock: clock.clone(),
        stopping: stopping.clone(),
    });
    let service = Service::new(
        "notification",
        http::routes(),
        app,
        settings.signing_keys,
        Dependencies {
            store: store.clone(),
            bus: bus.clone(),
        },
        registry,
    );

    let tasks = TaskTracker::new();
    let (taken, end) = (bus.clone(), shutdown.clone());
    tasks.spawn(keep_running("consumer", shutdown.clone(), move || {
        consumer.clone().run(taken.clone(), end.clone())
    }));
    let (counted, end) = (bus.clone(), shutdown.clone());
    tasks.spawn(keep_running("dead letters", shutdown.clone(), move || {
        count_dead_letters(counted.clone(), dead_letters.clone(), end.clone())
    }));
    // Streams live through the lame duck, so what wakes them does too.
    let (hints, end) = (bus.clone(), stopping.clone());
    tasks.spawn(keep_running("hints", stopping.clone(), move || {
        let (hub, bus, end) = (hub.clone(), hints.clone(), end.clone());
        async move { hub.follow(bus, end).await }
    }));
    let (old, end) = (store.clone(), shutdown.clone());
    tasks.spawn(keep_running("purge", shutdown.clone(), move || {
        let (store, clock) = (old.clone(), clock.clone());
        repeat(PURGE_EVERY, end.clone(), move || {
            let (store, now) = (store.clone(), clock.now());
            async move { Ok(store.purge(now, AT_ONCE).await? == AT_ONCE) }
        })
    }));
    let end = shutdown.clone();
    tasks.spawn(keep_running("forget", shutdown.clone(), move || {
        let store = store.clone();
        repeat(FORGET_EVERY, end.clone(), move || {
            let store = store.clone();
            async move { store.forget(AT_ONCE).await }
        })
    }));

    serve(listener, service, settings.limits, shutdown, stopping).await;
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// While the broker is away the last count stands; its absence is told elsewhere.
async fn count_dead_letters(
    bus: Arc<dyn Bus>,
    gauge: IntGauge,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        if let Ok(count) = bus.dead_letters().await {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(COUNT_EVERY) => {}
        }
    }
}

/// Repeats a step until `shutdown`: at once while it says that there is more, else now and then.
async fn repeat<F, Fut>(every: Duration, shutdown: CancellationToken, step: F) -> anyhow::Result<()>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<bool, StoreError>>,
{
    while !shutdown.is_cancelled() {
        if step().await? {
            continue;
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(every) => {}
        }
    }
    Ok(())
}

/// Lists are served from the store alone; without the broker only new notifications wait.
struct Dependencies {
    store: Arc<dyn NotificationStore>,
    bus: Arc<dyn Bus>,
}

#[async_trait]
impl Readiness for Dependencies {
    async fn dependencies(&self) -> Vec<Dependency> {
        let (store, bus) = tokio::join!(
            dependency(self.store.name(), true, self.store.ping()),
            dependency(self.bus.name(), false, self.bus.ping()),
        );
        vec![store, bus]
    }
}
