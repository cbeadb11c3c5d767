//! The skeleton of a worker: its listener, the tasks that run beside it, and the order in which they end.

use std::future::Future;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::serve::{Limits, Service, serve};
use crate::supervise::keep_running;

/// How long background tasks may take after the last request. The relay publishes for 2 s what was
/// hinted last; nothing else takes as long, and nothing is lost with it.
const LAST_TASKS: Duration = Duration::from_secs(5);

/// A worker's background tasks. Each of them names the moment at which it ends.
pub struct Worker {
    /// The process was asked to end.
    pub shutdown: CancellationToken,
    /// The lame duck is over: streams end.
    pub stopping: CancellationToken,
    /// The last request was answered.
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

    /// Keeps a task running until `end`; see [`keep_running`]. `task` is handed `end`.
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
