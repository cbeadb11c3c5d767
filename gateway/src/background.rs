//! What runs beside the requests: health checks, key sets, the access log and the admin listener.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use shared::http::client::Client;
use shared::http::{Limits, serve};
use shared::supervise::{CancellationToken, keep_running};

use crate::access_log::AccessLog;
use crate::admin::{self, Admin};
use crate::auth::Verifier;
use crate::upstream::{Cluster, health};

/// Every background task of the gateway.
pub(crate) struct Background {
    pub(crate) clusters: Vec<Arc<Cluster>>,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) access_log: Arc<AccessLog>,
    pub(crate) admin: Arc<Admin>,
    pub(crate) registry: prometheus::Registry,
    /// Bound before anything starts, so that a taken port is an error of `main`.
    pub(crate) listener: Mutex<Option<std::net::TcpListener>>,
}

#[async_trait]
impl BackgroundService for Background {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let stop = CancellationToken::new();
        let client = Client::new();
        let health = self.clusters.iter().map(|cluster| {
            let (cluster, client) = (cluster.clone(), client.clone());
            keep_running("health checks", stop.clone(), move || {
                let watch = health::watch(cluster.clone(), client.clone());
                async move {
                    watch.await;
                    Ok(())
                }
            })
        });
        let verifier = self.verifier.clone();
        let keys = keep_running("token keys", stop.clone(), move || {
            let verifier = verifier.clone();
            async move {
                verifier.run().await;
                Ok(())
            }
        });
        let access_log = self.access_log.clone();
        let lines = keep_running("access log", stop.clone(), move || {
            let access_log = access_log.clone();
            async move {
                access_log.run().await;
                Ok(())
            }
        });
        tokio::select! {
            _ = shutdown.changed() => {}
            _ = async { tokio::join!(join_all(health), keys, lines, self.serve_admin(&stop)) } => {}
        }
        stop.cancel();
        self.access_log.flush().await;
    }
}

impl Background {
    async fn serve_admin(&self, stop: &CancellationToken) {
        let listener = self
            .listener
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let listener = match listener.map(tokio::net::TcpListener::from_std) {
            Some(Ok(listener)) => listener,
            Some(Err(error)) => return tracing::error!(%error, "the admin listener did not start"),
            None => return,
        };
        let limits = Limits {
            max_connections: 256,
            lame_duck: Duration::ZERO,
            grace: Duration::from_secs(1),
        };
        let service = admin::service(self.admin.clone(), self.registry.clone());
        serve(listener, service, limits, stop.clone(), stop.child_token()).await;
    }
}
