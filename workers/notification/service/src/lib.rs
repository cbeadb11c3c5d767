//! The notification worker: consumes events, keeps each user's notifications, and serves them as
//! lists and as live streams. When a user is deleted, it removes their notifications.
//!
//! [`consumer`] takes events from the broker, [`domain`] decides who is notified of what, and the
//! [`store`] keeps it. [`http`] reads and changes the store; [`live`] sends new notifications.
//! The HTTP side never uses the broker, and the consumer never sees a request. The worker's own
//! process and the platform in one process call [`run`].

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
/// Each check reads one index, which is nearly always empty.
const FORGET_EVERY: Duration = Duration::from_secs(1);
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// How many notifications one cleanup step removes: some milliseconds of work, so that no event
/// waits long for it.
const CLEANUP_BATCH: usize = 500;

/// The store and the bus that the worker uses.
pub struct Adapters {
    pub store: Arc<dyn NotificationStore>,
    pub bus: Arc<dyn Bus>,
}

/// Serves on `listener` until `shutdown`, then drains. Starts even while every server is unreachable.
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
    // Lists need only the store. Without the broker, only new notifications are delayed.
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
    // Streams stay open during the lame duck, so they must still be woken then.
    worker.keep("hints", &worker.stopping, move |end| {
        let (hub, bus) = (hub.clone(), bus.clone());
        async move { hub.follow(bus, end).await }
    });
    let purged = store.clone();
    worker.keep("purge", &worker.shutdown, move |end| {
        let (store, clock) = (purged.clone(), clock.clone());
        repeat(PURGE_EVERY, end, move || {
            let (store, now) = (store.clone(), clock.now());
            async move { Ok(store.purge(now, CLEANUP_BATCH).await? == CLEANUP_BATCH) }
        })
    });
    worker.keep("forget", &worker.shutdown, move |end| {
        let store = store.clone();
        repeat(FORGET_EVERY, end, move || {
            let store = store.clone();
            async move { store.forget(CLEANUP_BATCH).await }
        })
    });
    worker.serve(listener, service, settings.limits).await;
    Ok(())
}

/// Keeps the gauge up to date. While the broker is unreachable the last count stays; readiness
/// reports the outage.
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

/// Repeats a step until `shutdown`: immediately while the step says that there is more to do,
/// otherwise after a pause of `every`.
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
