//! The task worker as a process of its own, on MongoDB and RabbitMQ.
//!
//! It only builds the adapters; what the worker does is in the crate `tasks`. `main.rs` and the tests
//! call [`run`].

mod config;

pub use config::{Config, DEFAULT_PORT};

use std::sync::Arc;

use events::bus::refill::Refiller;
use runtime::supervise::CancellationToken;
use tasks::Adapters;
use tasks_mongo::MongoTaskStore;
use tasks_mongo::files::GridFsFiles;
use tokio::net::TcpListener;

/// Serves on the servers that the configuration names, until `shutdown`.
pub async fn run(
    listener: TcpListener,
    Config {
        worker,
        max_file_bytes,
    }: Config,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let bus = Arc::new(worker.bus()?);
    let store = MongoTaskStore::connect(&worker.mongo).await?;
    let refiller = Refiller::new(bus.clone(), Arc::new(store.outbox()), "tasks");
    let adapters = Adapters {
        store: Arc::new(store),
        files: Arc::new(GridFsFiles::connect(&worker.mongo).await?),
        bus,
    };
    let serving = tasks::run(
        listener,
        worker.settings,
        max_file_bytes,
        adapters,
        shutdown,
    );
    refiller.beside(serving).await
}
