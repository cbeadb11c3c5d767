//! What every worker's `main` does: read the environment, log, listen, watch for signals; and the
//! `healthcheck` that containers and supervisors run.

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::env::{Strings, Vars};
use crate::http::Limits;
use crate::http::client::Client;
use crate::http::serve::Dependency;
use crate::identity::SigningKeys;
use crate::secret::Secret;
use crate::store::chain;
use crate::telemetry;

/// Of what `healthcheck` prints.
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
        let listen = vars.or("LISTEN", SocketAddr::from(([127, 0, 0, 1], default_port)));
        let log = vars.or("LOG", "info".to_owned());
        let signing_keys = vars.required("GATEWAY_SIGNING_KEYS", |text| {
            SigningKeys::parse(&Secret::new(text))
        });
        Some(Self {
            listen,
            signing_keys: signing_keys?,
            log,
            limits,
        })
    }
}

/// What a worker runs on.
pub struct Started {
    pub listener: TcpListener,
    /// Cancelled by SIGTERM or SIGINT.
    pub shutdown: CancellationToken,
}

/// Chooses who does TLS: two providers may be linked, and the drivers refuse to.
pub fn choose_tls() {
    // An error says that somebody has chosen.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
}

/// Logs, watches for signals and listens: what every worker does before it serves.
pub async fn start(name: &str, settings: &Settings) -> anyhow::Result<Started> {
    choose_tls();
    telemetry::init(&settings.log).map_err(anyhow::Error::msg)?;
    let shutdown = shutdown_on_signals()?;
    let listener = bind(settings.listen).await?;
    tracing::info!(address = %listener.local_addr()?, "the {name} worker listens");
    Ok(Started { listener, shutdown })
}

/// Asks a dependency, for at most a second: readiness must answer soon whatever it depends on.
pub async fn dependency<E: std::error::Error>(
    name: &'static str,
    required: bool,
    asked: impl Future<Output = Result<(), E>>,
) -> Dependency {
    const PATIENCE: Duration = Duration::from_secs(1);
    let detail = match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(chain(&error)),
        Err(_) => Some(format!("no answer within {PATIENCE:?}")),
    };
    Dependency {
        name,
        ok: detail.is_none(),
        required,
        detail,
    }
}

/// Binds, or says which address is taken.
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

/// Asks `url` (a `/readyz`, or another page inside) once and prints its answer: an error unless it is
/// 200 within two seconds.
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

/// Where this machine reaches the `/readyz` of the worker that the same environment starts.
pub fn own_readyz(source: &dyn Strings, default_port: u16) -> String {
    let listen = source
        .get("LISTEN")
        .and_then(|text| text.parse::<SocketAddr>().ok());
    let address = listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], default_port)));
    format!("http://{}/readyz", reachable(address))
}

/// Where this machine reaches a listener, also one on all addresses.
pub fn reachable(mut listener: SocketAddr) -> SocketAddr {
    if listener.ip().is_unspecified() {
        listener.set_ip(match listener {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    listener
}
