//! The signals that a process of its own listens to.

use std::{io, thread};

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// SIGTERM drains, SIGINT ends at once, and so does every second signal; SIGHUP is only logged.
#[derive(Debug, Clone)]
pub struct Signals(watch::Receiver<Option<Urgency>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    Drain,
    AtOnce,
}

impl Signals {
    /// Watches from here on, so before the first request can come: until then SIGTERM kills.
    /// Pingora's runtimes start later than its sockets listen, so this has a thread of its own.
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
                    tracing::warn!("a second signal: ending at once");
                    std::process::exit(130);
                }
            }
        };
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(watching))?;
        Ok(Self(watched))
    }

    /// The first that asks for the end.
    pub(crate) async fn first(&self) -> Urgency {
        let mut watched = self.0.clone();
        let urged = watched.wait_for(Option::is_some).await;
        // The thread watches as long as the process lives.
        urged
            .ok()
            .and_then(|urged| *urged)
            .unwrap_or(Urgency::AtOnce)
    }
}
