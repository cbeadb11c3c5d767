//! The end of the process: readiness first, then no new connections, then what runs may finish, and
//! last of all the connections that are idle. A connection that came in is served once, however
//! slowly this process gets to it.
//!
//! From the first step on every answer says `Connection: close`. So whoever keeps connections to this
//! gateway has none left to send a request into when they are closed, or is refused a new one and
//! goes elsewhere: no request is lost, also without anybody asking for readiness.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use runtime::supervise::CancellationToken;
use tokio::time::Instant;

use crate::connection::lifecycle::IDLE_READ_GRACE;
use crate::connection::lifecycle::Lifecycle;
use crate::connection::listener::CloseHandle;
use crate::connection::signals::{Signals, Urgency};

/// How often the drain looks whether anything still runs.
const POLL_EVERY: Duration = Duration::from_millis(20);
/// How long idle connections are kept after the listener: until a balancer was refused a new one.
const IDLE_CLOSE_DELAY: Duration = Duration::from_millis(250);
/// How long a connection that came in before the listener closed may take to begin its first
/// request. Some never will: browsers open connections ahead of need.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// What asks the gateway to end.
#[derive(Debug, Clone)]
pub enum Stop {
    /// The gateway has a process of its own.
    Signals(Signals),
    /// Drains when it is cancelled: the gateway shares its process with others.
    Token(CancellationToken),
}

/// Pingora's own graceful stop closes everything at once and sleeps; this one drains first.
pub(crate) struct Drain {
    pub(crate) stop: Stop,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) close_handle: CloseHandle,
    /// How long connections are still taken while `/readyz` already answers 503.
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
        // What was begun in the last moment, which idle connections are still looked at for.
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
    /// Waits until there are none of these, at most until `end`.
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
