//! The shutdown, in order: the gateway stops being ready, the listener closes, running requests
//! finish, and idle connections close last. A connection that was accepted is served at least once,
//! however late this process gets to it.
//!
//! From the first step on, every response says `Connection: close`. A client or balancer that keeps
//! connections open therefore has none left that it could send a request on when they are closed. If
//! it opens a new one, it is refused and goes to another gateway. So no request is lost, even where
//! nobody polls readiness.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use runtime::supervise::CancellationToken;
use tokio::time::Instant;

use crate::connection::lifecycle::{IDLE_READ_GRACE, Lifecycle};
use crate::connection::listener::CloseHandle;
use crate::connection::signals::{Signals, Urgency};

/// How often the drain checks whether anything still runs.
const POLL_EVERY: Duration = Duration::from_millis(20);
/// How much longer than the listener idle connections stay open, so that a balancer is refused a new
/// connection before it loses the ones it has.
const IDLE_CLOSE_DELAY: Duration = Duration::from_millis(250);
/// How long a connection that was accepted before the listener closed may take to start its first
/// request. Some never do: browsers open connections before they need them.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// What asks the gateway to shut down.
#[derive(Debug, Clone)]
pub enum Stop {
    /// For a gateway with its own process.
    Signals(Signals),
    /// For a gateway that shares its process with others. Drains when the token is cancelled.
    Token(CancellationToken),
}

/// Drains, then tells Pingora to stop. Pingora's own graceful stop closes everything at once and sleeps.
pub(crate) struct Drain {
    pub(crate) stop: Stop,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) close_handle: CloseHandle,
    /// How long connections are still accepted while `/readyz` already answers 503.
    pub(crate) lame_duck: Duration,
    /// How long running requests may take, the lame-duck time included.
    pub(crate) grace: Duration,
}

#[async_trait]
impl ShutdownSignalWatch for Drain {
    async fn recv(&self) -> ShutdownSignal {
        if self.requested().await == Urgency::AtOnce {
            return ShutdownSignal::FastShutdown;
        }
        tracing::info!(running = self.lifecycle.running_requests(), "draining");
        self.lifecycle.start_draining();
        let end = Instant::now() + self.grace;
        tokio::time::sleep(self.lame_duck).await;
        self.close_handle.close_listener();
        let first_request_by = end.min(Instant::now() + FIRST_REQUEST_TIMEOUT);
        tokio::time::sleep(IDLE_CLOSE_DELAY).await;
        self.wait_for_none(Lifecycle::pending_connections, first_request_by)
            .await;
        self.wait_for_none(Lifecycle::running_requests, end).await;
        self.close_handle.close_connections();
        // Requests that started in the last moment: idle connections are read for a little longer.
        tokio::time::sleep(2 * IDLE_READ_GRACE).await;
        self.wait_for_none(Lifecycle::running_requests, end).await;
        match self.lifecycle.running_requests() {
            0 => tracing::info!("drained"),
            left => tracing::warn!(
                left,
                "{left} requests were still running when the grace ended"
            ),
        }
        ShutdownSignal::GracefulTerminate
    }
}

impl Drain {
    /// Waits until `count` is zero, at most until `end`.
    async fn wait_for_none(&self, count: fn(&Lifecycle) -> usize, end: Instant) {
        while count(&self.lifecycle) > 0 && Instant::now() < end {
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    async fn requested(&self) -> Urgency {
        match &self.stop {
            Stop::Signals(signals) => signals.first().await,
            Stop::Token(token) => {
                token.cancelled().await;
                Urgency::Drain
            }
        }
    }
}

#[cfg(test)]
mod tests;
