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

use std::sync::Arc;
use std::time::Duration;

use events::bus::Bus;
use events::readiness::StoreAndBus;
use prometheus::{IntGauge, Registry};
use runtime::process::Settings;
use runtime::supervise::CancellationToken;
use runtime::telemetry::register;
use runtime::time::{Clock, SystemClock};
use runtime::worker::Worker;
use stores::StoreError;
use tokio::net::TcpListener;
use web::Service;

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

/// Serves on `listener` until `shutdown`, then drains. Starts with every server away.
pub async fn run(
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
    let worker = Worker::new(shutdown);
    let app = Arc::new(App {
        store: store.clone(),
        hub: hub.clone(),
        clock: clock.clone(),
        stopping: worker.stopping.clone(),
    });
    // Lists are served from the store alone; without the broker only new notifications wait.
    let readiness = StoreAndBus {
        store: store.clone(),
        bus: bus.clone(),
    };
    let service = Service::new(
        "notification",
        http::routes(),
        app,
        settings.signing_keys,
        readiness,
        registry,
    );

    let consumed = bus.clone();
    worker.keep("consumer", &worker.shutdown, move |end| {
        consumer.clone().run(consumed.clone(), end)
    });
    let counted = bus.clone();
    worker.keep("dead letters", &worker.shutdown, move |end| {
        count_dead_letters(counted.clone(), dead_letters.clone(), end)
    });
    // Streams live through the lame duck, so what wakes them does too.
    worker.keep("hints", &worker.stopping, move |end| {
        let (hub, bus) = (hub.clone(), bus.clone());
        async move { hub.follow(bus, end).await }
    });
    let old = store.clone();
    worker.keep("purge", &worker.shutdown, move |end| {
        let (store, clock) = (old.clone(), clock.clone());
        repeat(PURGE_EVERY, end, move || {
            let (store, now) = (store.clone(), clock.now());
            async move { Ok(store.purge(now, AT_ONCE).await? == AT_ONCE) }
        })
    });
    worker.keep("forget", &worker.shutdown, move |end| {
        let store = store.clone();
        repeat(FORGET_EVERY, end, move || {
            let store = store.clone();
            async move { store.forget(AT_ONCE).await }
        })
    });
    worker.serve(listener, service, settings.limits).await;
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
