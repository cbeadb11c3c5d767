//! Runs the notification worker on MongoDB and RabbitMQ. It only connects the parts: what the worker
//! does is in the crate `notifications`. The binary and the tests call [`run`].

use std::sync::Arc;

use notifications::Adapters;
use notifications_mongo::MongoNotifications;
use process::Config;
use runtime::supervise::CancellationToken;
use tokio::net::TcpListener;

/// The default port of the first notification worker.
pub const DEFAULT_PORT: u16 = 4003;

/// Serves until `shutdown`, with the servers that `config` names.
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
