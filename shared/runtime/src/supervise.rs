//! Background tasks that end only on shutdown. A task that fails or panics is logged and started again.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;
pub use tokio_util::sync::CancellationToken;
pub use tokio_util::task::TaskTracker;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A run of this length counts as healthy: after it, the next pause is the first one again.
const HEALTHY_RUN: Duration = Duration::from_secs(10);

/// Runs `task` until `shutdown`. When it ends early, fails or panics, it is started again after a pause, which
/// grows to at most two seconds. `task` must watch `shutdown` itself and return `Ok` then.
pub async fn keep_running<F, Fut>(name: &'static str, shutdown: CancellationToken, mut task: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let mut pause = FIRST_PAUSE;
    while !shutdown.is_cancelled() {
        let started = Instant::now();
        // Spawned, so that a panic becomes an error here instead of ending the caller.
        match tokio::spawn(task()).await {
            Ok(Ok(())) if shutdown.is_cancelled() => return,
            // A task that is stopped half-way may fail because of that; it is not started again.
            Ok(Err(error)) if shutdown.is_cancelled() => {
                tracing::debug!(task = name, "`{name}` failed on its way out: {error:#}");
                return;
            }
            Ok(Ok(())) => tracing::warn!(task = name, "`{name}` ended early; starting it again"),
            Ok(Err(error)) => {
                tracing::warn!(
                    task = name,
                    error = format!("{error:#}"),
                    "`{name}` failed; starting it again"
                );
            }
            Err(panic) => {
                tracing::error!(task = name, error = %panic, "`{name}` panicked; starting it again")
            }
        }
        if started.elapsed() > HEALTHY_RUN {
            pause = FIRST_PAUSE;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test(start_paused = true)]
    async fn a_task_that_fails_and_panics_is_started_again_until_shutdown() {
        let runs = Arc::new(AtomicU32::new(0));
        let shutdown = CancellationToken::new();
        let (count, token) = (runs.clone(), shutdown.clone());
        keep_running("test", shutdown, move || {
            let (n, token) = (count.fetch_add(1, Ordering::Relaxed), token.clone());
            async move {
                match n {
                    0 => anyhow::bail!("first"),
                    1 => panic!("second"),
                    _ => {
                        token.cancel();
                        Ok(())
                    }
                }
            }
        })
        .await;
        assert_eq!(runs.load(Ordering::Relaxed), 3);
    }
}
