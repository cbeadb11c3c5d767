//! The notification worker as a process of its own, on MongoDB and RabbitMQ. What it does is the crate
//! `notifications`.

use std::sync::Arc;

use notifications::Adapters;
use notifications_mongo::MongoNotifications;
use process::Config;
use runtime::supervise::CancellationToken;
use tokio::net::TcpListener;

/// Where the first of these workers listens unless told.
pub const DEFAULT_PORT: u16 = 4003;

/// Serves with the servers that `config` names, until `shutdown`.
pub async fn run(
    listener: TcpListener,
    config: Config,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let database = mongo::connect(&config.mongo).await?;
    let adapters = Adapters {
        store: Arc::new(MongoNotifications::new(database)),
        bus: Arc::new(config.bus()?),
    };
    notifications::run(listener, config.settings, adapters, shutdown).await
}
