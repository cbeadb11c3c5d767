//! What the real servers have in common: the start, and the wait until they are ready.

use std::fmt::Display;
use std::time::{Duration, Instant};

use super::process::Process;

/// Why a server could not be started.
#[derive(Debug)]
pub(super) enum StartError {
    /// Another process has the port; a different port may work.
    AddressInUse(String),
    Failed(String),
}

impl Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AddressInUse(message) | Self::Failed(message) => f.write_str(message),
        }
    }
}

/// Starts a server, and tries again with other ports (five times in all) while its log says that the address
/// is in use.
pub(super) async fn start_on_free_ports<S>(
    mut start: impl AsyncFnMut() -> Result<S, StartError>,
) -> Result<S, String> {
    let mut last = None;
    for _ in 0..5 {
        match start().await {
            Err(error @ StartError::AddressInUse(_)) => last = Some(error),
            other => return other.map_err(|error| error.to_string()),
        }
    }
    Err(last.map(|error| error.to_string()).unwrap_or_default())
}

/// Probes the server until it is ready.
pub(super) async fn ready(
    process: &mut Process,
    deadline: Duration,
    mut probe: impl AsyncFnMut(u32) -> Result<(), String>,
) -> Result<(), StartError> {
    let end = Instant::now() + deadline;
    let pid = process.pid();
    loop {
        let probed = tokio::time::timeout(Duration::from_secs(2), probe(pid)).await;
        let reason = match (probed, process.exit_status()) {
            (_, Some(status)) => format!("ended ({status})"),
            (Ok(Ok(())), None) => return Ok(()),
            (Ok(Err(reason)), None) => format!("is not ready: {reason}"),
            (Err(_), None) => "does not answer".to_owned(),
        };
        if process.exit_status().is_some() || Instant::now() > end {
            let message = format!(
                "{} {reason}; its log ends with:\n{}",
                process.name(),
                process.log_tail(25)
            );
            let log = process.log().to_lowercase();
            return Err(
                if log.contains("address already in use") || log.contains("eaddrinuse") {
                    StartError::AddressInUse(message)
                } else {
                    StartError::Failed(message)
                },
            );
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The error for a server that is not installed.
pub(super) fn missing(server: &str, package: &str) -> StartError {
    StartError::Failed(format!(
        "{server} is not installed: `make test` installs it before it runs the tests ({package})"
    ))
}

#[cfg(test)]
mod tests;
