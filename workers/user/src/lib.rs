//! Runs the user worker on MongoDB and RabbitMQ. The service itself is the crate `users`; this
//! crate only connects it to its servers. `main` calls [`run`].

mod config;

pub use config::{Config, DEFAULT_PORT};
pub use users::Hashing;

use std::sync::Arc;

use events::bus::refill::Refiller;
use runtime::supervise::CancellationToken;
use runtime::time::{Clock, SystemClock};
use tokio::net::TcpListener;
use users::Adapters;
use users_mongo::MongoUserStore;

/// Serves until `shutdown`, with the store and the broker from `config`.
pub async fn run(
    listener: TcpListener,
    config: Config,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    run_at(listener, config, Arc::new(SystemClock), shutdown).await
}

/// Like [`run`], with another clock.
pub async fn run_at(
    listener: TcpListener,
    Config {
        worker,
        credentials,
    }: Config,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let bus = Arc::new(worker.bus()?);
    let store = MongoUserStore::connect(&worker.mongo).await?;
    let refiller = Refiller::new(bus.clone(), Arc::new(store.outbox()), "users");
    let adapters = Adapters {
        store: Arc::new(store),
        bus,
        clock,
    };
    let serving = users::run(listener, worker.settings, credentials, adapters, shutdown);
    refiller.beside(serving).await
}
