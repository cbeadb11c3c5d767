//! The end of the process: readiness first, then no new connections, then what runs may finish.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use shared::supervise::CancellationToken;
use tokio::signal::unix::{SignalKind, signal};

use crate::ctx::Lifecycle;

/// How often the drain looks whether anything still runs.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What asks the gateway to end.
#[derive(Debug, Clone)]
pub enum Stop {
    /// SIGTERM drains; SIGINT ends at once; SIGHUP is only logged.
    Signals,
    /// Drains when it is cancelled: the gateway shares its process with others.
    Token(CancellationToken),
}

/// Pingora's own graceful stop closes the listeners at once and sleeps; this one drains first.
pub(crate) struct Drain {
    pub(crate) stop: Stop,
    pub(crate) lifecycle: Arc<Lifecycle>,
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
        tracing::info!(running = self.lifecycle.running(), "draining");
        self.lifecycle.start_draining();
        let end = Instant::now() + self.grace;
        tokio::time::sleep(self.lame_duck).await;
        while self.lifecycle.running() > 0 && Instant::now() < end {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        match self.lifecycle.running() {
            0 => tracing::info!("drained"),
            left => tracing::warn!(
                left,
                "{left} requests were still running when the grace ended"
            ),
        }
        ShutdownSignal::GracefulTerminate
    }
}

#[derive(PartialEq, Eq)]
enum Urgency {
    Drain,
    AtOnce,
}

impl Drain {
    async fn requested(&self) -> Urgency {
        let token = match &self.stop {
            Stop::Token(token) => token,
            Stop::Signals => {
                let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = (
                    signal(SignalKind::terminate()),
                    signal(SignalKind::interrupt()),
                    signal(SignalKind::hangup()),
                ) else {
                    tracing::error!("signals cannot be watched; ending");
                    return Urgency::AtOnce;
                };
                loop {
                    tokio::select! {
                        _ = terminate.recv() => return Urgency::Drain,
                        _ = interrupt.recv() => return Urgency::AtOnce,
                        _ = hangup.recv() => {
                            tracing::warn!("the configuration is read at start only; restart to change it");
                        }
                    }
                }
            }
        };
        token.cancelled().await;
        Urgency::Drain
    }
}
