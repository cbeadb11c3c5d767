//! What runs beside the requests: health checks, key sets, ended sessions, the access log and the admin
//! listener.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use contract::identity::SigningKeys;
use futures_util::future::join_all;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use runtime::client::Client;
use runtime::serve::{Limits, serve};
use runtime::supervise::{CancellationToken, keep_running};

use crate::auth::{Revocations, Verifier};
use crate::observe::access_log::AccessLog;
use crate::observe::admin::{self, AdminState};
use crate::upstream::{Cluster, health};

/// How long the tasks and the admin listener may take to stop: less than the second for which Pingora
/// waits.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// Every background task of the gateway.
pub(crate) struct Background {
    pub(crate) clusters: Vec<Arc<Cluster>>,
    pub(crate) verifier: Arc<Verifier>,
    /// With the workers that are asked for them.
    pub(crate) revocations: Option<(Arc<Revocations>, Arc<Cluster>)>,
    pub(crate) signing_keys: SigningKeys,
    pub(crate) access_log: Arc<AccessLog>,
    pub(crate) admin: Arc<AdminState>,
    pub(crate) registry: prometheus::Registry,
    /// Bound before anything starts, so that a port in use is an error of `main`.
    pub(crate) listener: Mutex<Option<std::net::TcpListener>>,
}

#[async_trait]
impl BackgroundService for Background {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let stop = CancellationToken::new();
        let client = Client::new();
        let health = self.clusters.iter().map(|cluster| {
            let (cluster, client) = (cluster.clone(), client.clone());
            run_until_stopped("health checks", &stop, move || {
                health::watch(cluster.clone(), client.clone())
            })
        });
        let verifier = self.verifier.clone();
        let keys = run_until_stopped("token keys", &stop, move || {
            let verifier = verifier.clone();
            async move { verifier.run().await }
        });
        let ends = self.revocations.as_ref().map(|(revocations, cluster)| {
            run_until_stopped("ended sessions", &stop, || {
                let (revocations, cluster) = (revocations.clone(), cluster.clone());
                let (client, keys) = (client.clone(), self.signing_keys.clone());
                async move { revocations.run(&cluster, &client, &keys).await }
            })
        });
        let ends = join_all(ends);
        let access_log = self.access_log.clone();
        let lines = run_until_stopped("access log", &stop, move || {
            let access_log = access_log.clone();
            async move { access_log.run().await }
        });
        let all =
            async { tokio::join!(join_all(health), keys, ends, lines, self.serve_admin(&stop)) };
        let end = async {
            // Fails only when the sender is gone, which means that the process ends.
            shutdown.wait_for(|stop| *stop).await.ok();
            stop.cancel();
            tokio::time::sleep(STOP_TIMEOUT).await;
        };
        tokio::select! {
            _ = all => {}
            () = end => tracing::warn!("a background task did not stop in time"),
        }
        self.access_log.flush().await;
    }
}

/// Runs a task that never ends by itself until `stop`, and restarts it when it panics.
fn run_until_stopped<F, Fut>(
    name: &'static str,
    stop: &CancellationToken,
    mut task: F,
) -> impl Future<Output = ()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let stopped = stop.clone();
    keep_running(name, stop.clone(), move || {
        let run = stopped.clone().run_until_cancelled_owned(task());
        async move {
            run.await;
            Ok(())
        }
    })
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
            // Health and metrics are served at once.
            settle: Duration::ZERO,
            lame_duck: Duration::ZERO,
            grace: STOP_TIMEOUT / 2,
        };
        let service = admin::service(self.admin.clone(), self.registry.clone());
        serve(listener, service, limits, stop.clone(), stop.child_token()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn what_never_ends_by_itself_ends_with_its_token() {
        let stop = CancellationToken::new();
        let (alive, mut dropped) = mpsc::channel::<()>(1);
        let (started, mut running) = mpsc::channel(1);
        let watching = run_until_stopped("test", &stop, move || {
            let (alive, started) = (alive.clone(), started.clone());
            async move {
                started.send(()).await.unwrap();
                std::future::pending::<()>().await;
                drop(alive);
            }
        });
        let stopping = async {
            running.recv().await.unwrap();
            stop.cancel();
        };
        tokio::join!(watching, stopping);
        assert!(dropped.recv().await.is_none(), "it still runs");
    }
}
