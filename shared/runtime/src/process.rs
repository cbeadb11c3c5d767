//! The skeleton of a process: it reads its settings, logs, listens, watches for signals, and reports its error
//! when it ends. Also the `healthcheck` that containers and supervisors run.

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use contract::identity::SigningKeys;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::env::{Strings, Vars};
use crate::serve::Limits;
use crate::telemetry;

/// The most bytes that `healthcheck` prints.
const MAX_PAGE: usize = 1 << 20;

/// The variables that every worker reads.
#[derive(Debug, Clone)]
pub struct Settings {
    pub listen: SocketAddr,
    pub signing_keys: SigningKeys,
    /// An `EnvFilter` directive.
    pub log: String,
    pub limits: Limits,
}

impl Settings {
    /// Reads `LISTEN`, `GATEWAY_SIGNING_KEYS`, `LOG`, `DRAIN_LAME_DUCK` and `SHUTDOWN_GRACE`.
    /// `None` means that an error was recorded.
    pub fn read(vars: &mut Vars<'_>, default_port: u16) -> Option<Self> {
        let default = Limits::default();
        let limits = Limits {
            lame_duck: vars.duration_or("DRAIN_LAME_DUCK", default.lame_duck),
            grace: vars.duration_or("SHUTDOWN_GRACE", default.grace),
            ..default
        };
        if limits.lame_duck >= limits.grace {
            vars.refuse("DRAIN_LAME_DUCK must be shorter than SHUTDOWN_GRACE, which includes it");
        }
        let listen = vars.or("LISTEN", SocketAddr::from(([127, 0, 0, 1], default_port)));
        let log = vars.or("LOG", "info".to_owned());
        let signing_keys = vars.required("GATEWAY_SIGNING_KEYS", SigningKeys::parse);
        Some(Self {
            listen,
            signing_keys: signing_keys?,
            log,
            limits,
        })
    }
}

/// A process that listens.
pub struct Started {
    pub listener: TcpListener,
    /// Cancelled by SIGTERM or SIGINT.
    pub shutdown: CancellationToken,
}

/// Chooses the TLS provider. Two may be linked, and the drivers do not choose between them.
pub fn choose_tls() {
    // An error means that one was chosen before.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
}

/// Starts the log, watches for signals and listens, as every worker does before it serves.
pub async fn start(name: &str, settings: &Settings) -> anyhow::Result<Started> {
    choose_tls();
    telemetry::init(&settings.log).map_err(anyhow::Error::msg)?;
    let shutdown = shutdown_on_signals()?;
    let listener = bind(settings.listen).await?;
    tracing::info!(address = %listener.local_addr()?, "the {name} listens");
    Ok(Started { listener, shutdown })
}

/// Binds the address. The error names it.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; set LISTEN to a free address"))
}

/// Cancelled by SIGTERM or SIGINT; a second signal ends the process at once.
pub fn shutdown_on_signals() -> anyhow::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let cancel = token.clone();
    tokio::spawn(async move {
        let mut next =
            async || tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} };
        next().await;
        tracing::info!("draining");
        cancel.cancel();
        next().await;
        tracing::warn!("a second signal: ending at once");
        std::process::exit(130);
    });
    Ok(token)
}

/// Runs `main`'s future and reports its error, with all causes, on standard error.
pub fn exit(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Requests `url` (a `/readyz` or another page inside the platform) once and prints the answer. It is an error
/// unless the answer is a success within two seconds.
pub async fn healthcheck(url: &str) -> anyhow::Result<()> {
    let uri = url
        .parse()
        .with_context(|| format!("`{url}` is not a URL"))?;
    let answer = Client::new()
        .get(&uri, Duration::from_secs(2), MAX_PAGE)
        .await
        .with_context(|| format!("{url} does not answer"))?;
    anyhow::ensure!(
        answer.status.is_success(),
        "{url} answers {}: {}",
        answer.status,
        String::from_utf8_lossy(&answer.body)
    );
    Ok(std::io::stdout().write_all(&answer.body)?)
}

/// The URL at which this machine reaches the `/readyz` of the worker that the same environment starts.
pub fn own_readyz(source: &dyn Strings, default_port: u16) -> String {
    let listen = source
        .get("LISTEN")
        .and_then(|text| text.parse::<SocketAddr>().ok());
    let address = listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], default_port)));
    format!("http://{}/readyz", reachable(address))
}

/// An address at which this machine reaches a listener, even one that listens on all addresses.
pub fn reachable(mut listener: SocketAddr) -> SocketAddr {
    if listener.ip().is_unspecified() {
        listener.set_ip(match listener {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    listener
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn a_lame_duck_that_outlives_the_grace_is_refused() {
        let read = |lame_duck: &str, grace: &str| {
            let source = HashMap::from(
                [
                    ("GATEWAY_SIGNING_KEYS", format!("k1:{}", "11".repeat(32))),
                    ("DRAIN_LAME_DUCK", lame_duck.to_owned()),
                    ("SHUTDOWN_GRACE", grace.to_owned()),
                ]
                .map(|(name, value)| (name.to_owned(), value)),
            );
            let mut vars = Vars::new(&source);
            let settings = Settings::read(&mut vars, 1);
            vars.finish(|| settings)
                .map(|settings| settings.limits.grace)
        };
        assert_eq!(read("3s", "25s").unwrap(), Duration::from_secs(25));
        for (lame_duck, grace) in [("3s", "3s"), ("4s", "3s")] {
            let why = read(lame_duck, grace).unwrap_err().to_string();
            assert!(why.contains("DRAIN_LAME_DUCK must be shorter"), "{why}");
        }
    }
}
