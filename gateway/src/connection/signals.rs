//! The signals to which a gateway with its own process reacts.

use std::{io, thread};

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// SIGTERM drains. SIGINT stops at once, and so does any second signal. SIGHUP is only logged.
#[derive(Debug, Clone)]
pub struct Signals(watch::Receiver<Option<Urgency>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    Drain,
    AtOnce,
}

impl Signals {
    /// Starts to watch. Must be called before the first request can arrive, because until then SIGTERM
    /// kills the process. Runs on its own thread: Pingora's runtimes start after its sockets listen.
    pub fn watch() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let (mut terminate, mut interrupt, mut hangup) = {
            let _context = runtime.enter();
            (
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
                signal(SignalKind::hangup())?,
            )
        };
        let (urgency, watched) = watch::channel(None);
        let watching = async move {
            loop {
                let urged = tokio::select! {
                    _ = terminate.recv() => Urgency::Drain,
                    _ = interrupt.recv() => Urgency::AtOnce,
                    _ = hangup.recv() => {
                        tracing::warn!("the configuration is read at start only; restart to change it");
                        continue;
                    }
                };
                if urgency.send_replace(Some(urged)).is_some() {
                    tracing::warn!("second signal: stopping at once");
                    std::process::exit(130);
                }
            }
        };
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(watching))?;
        Ok(Self(watched))
    }

    /// The first signal that asks to shut down.
    pub(crate) async fn first(&self) -> Urgency {
        let mut watched = self.0.clone();
        let urged = watched.wait_for(Option::is_some).await;
        // Never fails: the thread watches until the process ends.
        urged
            .ok()
            .and_then(|urged| *urged)
            .unwrap_or(Urgency::AtOnce)
    }
}
