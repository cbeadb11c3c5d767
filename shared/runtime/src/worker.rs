//! The skeleton of a worker: its listener, the tasks that run beside it, and the order in which they end.

use std::future::Future;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::serve::{Limits, Service, serve};
use crate::supervise::keep_running;

/// How long background tasks may take after the last request. The relay publishes the last hints for up to 2 s,
/// no other task takes as long, and events that are not published stay in the outbox.
const LAST_TASKS: Duration = Duration::from_secs(5);

/// A worker's background tasks. Each task is given the token that ends it.
pub struct Worker {
    /// Cancelled when the process is asked to end.
    pub shutdown: CancellationToken,
    /// Cancelled when the lame-duck time is over and streams end.
    pub stopping: CancellationToken,
    /// Cancelled when the last request was answered.
    pub served: CancellationToken,
    tasks: TaskTracker,
}

impl Worker {
    pub fn new(shutdown: CancellationToken) -> Self {
        Self {
            shutdown,
            stopping: CancellationToken::new(),
            served: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Keeps a task running until `end`, which is passed to it; see [`keep_running`].
    pub fn keep<F, Fut>(&self, name: &'static str, end: &CancellationToken, mut task: F)
    where
        F: FnMut(CancellationToken) -> Fut + Send + 'static,
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let ends = end.clone();
        self.tasks
            .spawn(keep_running(name, end.clone(), move || task(ends.clone())));
    }

    /// Serves until `shutdown`, drains, and returns when every task has ended.
    pub async fn serve(self, listener: TcpListener, service: impl Service, limits: Limits) {
        serve(listener, service, limits, self.shutdown, self.stopping).await;
        self.served.cancel();
        self.tasks.close();
        if timeout(LAST_TASKS, self.tasks.wait()).await.is_err() {
            tracing::warn!("a background task did not end within {LAST_TASKS:?}");
        }
    }
}
