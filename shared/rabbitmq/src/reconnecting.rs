//! A connection that is made when first needed, and made again after it broke.

use std::sync::Arc;

use events::bus::{BusError, Topology};
use lapin::uri::AMQPUri;
use tokio::sync::Mutex;

use super::connection::BrokerConnection;
use super::topology;

/// Makes the connection when it is needed; its users share it.
pub(super) struct Reconnecting {
    pub(super) uri: AMQPUri,
    pub(super) topology: Topology,
    connection: Mutex<Option<Arc<BrokerConnection>>>,
}

impl Reconnecting {
    pub(super) fn new(uri: AMQPUri, topology: Topology) -> Self {
        Self {
            uri,
            topology,
            connection: Mutex::new(None),
        }
    }

    /// The open connection, or a new one with the topology declared on it.
    pub(super) async fn connection(&self) -> Result<Arc<BrokerConnection>, BusError> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| connection.is_alive()) {
            return Ok(connection.clone());
        }
        *slot = None;
        let connection = Arc::new(open(&self.uri, &self.topology).await?);
        *slot = Some(connection.clone());
        Ok(connection)
    }
}

/// A new connection with the topology declared on it.
async fn open(uri: &AMQPUri, queues: &Topology) -> Result<BrokerConnection, BusError> {
    let connection = BrokerConnection::connect(uri, queues).await?;
    topology::declare(&connection).await?;
    topology::check(&connection).await?;
    Ok(connection)
}
