//! A connection that is made when it is first needed, and anew after it broke.

use std::sync::Arc;

use events::bus::{BusError, Topology};
use lapin::uri::AMQPUri;
use tokio::sync::Mutex;

use super::connection::BrokerConnection;
use super::topology;

/// One connection, made when first needed, and anew when it broke.
pub(super) struct Reconnecting {
    pub(super) uri: AMQPUri,
    pub(super) topology: Topology,
    link: Mutex<Option<Arc<BrokerConnection>>>,
}

impl Reconnecting {
    pub(super) fn new(uri: AMQPUri, topology: Topology) -> Self {
        Self {
            uri,
            topology,
            link: Mutex::new(None),
        }
    }

    /// The living connection, or a new one with everything declared on it.
    pub(super) async fn link(&self) -> Result<Arc<BrokerConnection>, BusError> {
        let mut slot = self.link.lock().await;
        if let Some(link) = slot.as_ref().filter(|link| link.is_alive()) {
            return Ok(link.clone());
        }
        *slot = None;
        let link = Arc::new(open(&self.uri, &self.topology).await?);
        *slot = Some(link.clone());
        Ok(link)
    }
}

/// A new connection with the topology declared on it.
async fn open(uri: &AMQPUri, queues: &Topology) -> Result<BrokerConnection, BusError> {
    let link = BrokerConnection::connect(uri, queues).await?;
    topology::declare(&link).await?;
    topology::check(&link).await?;
    Ok(link)
}
