//! Serves a route table on a listener: deadlines on every head, a bounded number of connections,
//! the signature checked before any handler, panics answered, and a drain on shutdown.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::FutureExt;
use http::{Method, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::reply::{Reply, ReplyBody};
use super::request::single;
use super::routes::{Routes, Sender};
use super::stall::Stall;
use crate::identity::{REQUEST_ID, SigningKeys};
use crate::problem::Problem;
use crate::telemetry::{self, HttpMetrics};

/// Bounds of a listener and the pace of its drain.
#[derive(Debug, Clone)]
pub struct Limits {
    pub max_connections: usize,
    /// How long after the signal requests are still taken while `/readyz` already answers 503.
    pub lame_duck: Duration,
    /// How long running requests may take after that.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 20_000,
            lame_duck: Duration::from_secs(3),
            grace: Duration::from_secs(25),
        }
    }
}

/// How long a request's head may take; also how long an idle connection is kept. Longer than the
/// gateway keeps its idle upstream connections, so that it never writes into a closing one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may leave what was sent to it unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_HEAD_BYTES: usize = 32 << 10;
/// How long idle connections are kept after the listener.
const LINGER: Duration = Duration::from_millis(250);

/// How long the first connections wait for what their requests need. A worker that is back before its
/// gateways have missed it is sent requests at once, and would refuse them while it reaches its store.
const SETTLING: Duration = Duration::from_secs(2);

/// One thing a worker needs, and whether it can be reached.
#[derive(Debug, Clone, Serialize)]
pub struct Dependency {
    pub name: &'static str,
    pub ok: bool,
    /// Whether the worker is not ready without it.
    pub required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Asks a worker's dependencies. Must answer within about a second.
#[async_trait]
pub trait Readiness: Send + Sync + 'static {
    async fn dependencies(&self) -> Vec<Dependency>;
}

/// Everything a listener serves.
pub struct Service<C> {
    routes: Routes<C>,
    cx: Arc<C>,
    /// None where nobody signs: every request is unsigned.
    keys: Option<SigningKeys>,
    readiness: Box<dyn Readiness>,
    registry: prometheus::Registry,
    metrics: Option<HttpMetrics>,
    draining: AtomicBool,
}

impl<C: Send + Sync + 'static> Service<C> {
    pub fn new(
        worker: &'static str,
        routes: Routes<C>,
        cx: Arc<C>,
        keys: SigningKeys,
        readiness: impl Readiness,
        registry: prometheus::Registry,
    ) -> Self {
        Self {
            keys: Some(keys),
            metrics: Some(HttpMetrics::new(worker, &registry)),
            ..Self::internal(routes, cx, readiness, registry)
        }
    }

    /// A listener of health, metrics and status only: nothing on it is signed or counted.
    pub fn internal(
        routes: Routes<C>,
        cx: Arc<C>,
        readiness: impl Readiness,
        registry: prometheus::Registry,
    ) -> Self {
        Self {
            routes,
            cx,
            keys: None,
            readiness: Box::new(readiness),
            metrics: None,
            registry,
            draining: AtomicBool::new(false),
        }
    }

    async fn answer(&self, request: http::Request<Incoming>) -> Response<ReplyBody> {
        let started = Instant::now();
        let (head, body) = request.into_parts();
        if let Some(reply) = self.operations(head.uri.path()).await {
            return reply.into_response();
        }
        let method = head.method.clone();
        let instance = head.uri.path().to_owned();
        let request_id = single(&head, &REQUEST_ID).unwrap_or("").to_owned();
        let known: Vec<_> = match method {
            Method::GET | Method::HEAD => head
                .headers
                .get_all(header::IF_NONE_MATCH)
                .iter()
                .cloned()
                .collect(),
            _ => Vec::new(),
        };
        let (route, answer) = self
            .routes
            .dispatch(&self.cx, self.sender(&head), head, body);

        let reply = match AssertUnwindSafe(answer).catch_unwind().await {
            Ok(Ok(reply)) => reply.unless_known(&known),
            Ok(Err(problem)) => Reply::problem(&problem, &instance, &request_id),
            Err(_) => {
                tracing::error!(request_id, "the handler of {method} {route} panicked");
                Reply::problem(&Problem::internal(), &instance, &request_id)
            }
        };
        if let Some(metrics) = &self.metrics {
            metrics.observe(&method, route, reply.status().as_u16(), started.elapsed());
        }
        let mut response = reply.into_response();
        if self.draining.load(Ordering::Relaxed) {
            let close = http::HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        response
    }

    fn sender(&self, head: &http::request::Parts) -> Sender {
        let Some(keys) = &self.keys else {
            return Sender::Unsigned;
        };
        let target = head
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str());
        let now = jiff::Timestamp::now().as_millisecond();
        match keys.verify(head.method.as_str(), target, &head.headers, now) {
            Ok(caller) => Sender::Signed(caller),
            Err(why) => {
                tracing::debug!(%why, "a request without a valid signature");
                Sender::Unsigned
            }
        }
    }

    /// `/livez`, `/readyz`, `/metrics` and a worker's `/status`, unsigned: this listener is never public.
    async fn operations(&self, path: &str) -> Option<Reply> {
        match path {
            "/livez" => Some(Reply::ok(&serde_json::json!({"status": "live"}))),
            "/readyz" => Some(self.readyz().await),
            "/metrics" => Some(metrics(&self.registry)),
            // A service without keys is no worker, and has a `/status` of its own.
            "/status" if self.keys.is_some() => Some(self.status().await),
            _ => None,
        }
    }

    async fn readyz(&self) -> Reply {
        let (ready, body) = self.health().await;
        match ready {
            true => Reply::ok(&body),
            false => Reply::json(StatusCode::SERVICE_UNAVAILABLE, &body),
        }
    }

    /// What `/readyz` says, and every figure there is. Always 200.
    async fn status(&self) -> Reply {
        let (_, mut body) = self.health().await;
        body["figures"] = telemetry::figures(&self.registry).into();
        Reply::ok(&body)
    }

    async fn health(&self) -> (bool, serde_json::Value) {
        let draining = self.draining.load(Ordering::Relaxed);
        let dependencies = self.readiness.dependencies().await;
        let ready = !draining && suffice(&dependencies);
        let body = serde_json::json!({
            "status": if ready { "ready" } else { "not ready" },
            "draining": draining,
            "dependencies": dependencies,
        });
        (ready, body)
    }

    /// Ends when requests can be answered, or should wait for that no longer.
    async fn settle(&self) {
        let settled = async {
            while !suffice(&self.readiness.dependencies().await) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        // Listeners of health and metrics have no requests that could be too early.
        if self.keys.is_some() {
            tokio::time::timeout(SETTLING, settled).await.ok();
        }
    }
}

fn suffice(dependencies: &[Dependency]) -> bool {
    dependencies.iter().all(|d| d.ok || !d.required)
}

/// The metrics of a registry as an answer.
pub fn metrics(registry: &prometheus::Registry) -> Reply {
    let text = bytes::Bytes::from(telemetry::render(registry));
    Reply::stream(
        StatusCode::OK,
        "text/plain; version=0.0.4; charset=utf-8",
        futures_util::stream::once(std::future::ready(Ok(text))),
    )
}

/// Serves until `shutdown`, then drains: readiness first, then no new connections, then none that are
/// idle, and what runs may finish within the grace. `stopping` is cancelled when streams should end.
///
/// From the first step on every answer says `Connection: close`, so that a gateway that has not
/// noticed has no kept connection to write a request into when they are closed.
pub async fn serve<C: Send + Sync + 'static>(
    listener: TcpListener,
    service: Service<C>,
    limits: Limits,
    shutdown: CancellationToken,
    stopping: CancellationToken,
) {
    let service = Arc::new(service);
    let permits = Arc::new(Semaphore::new(limits.max_connections));
    let connections = GracefulShutdown::new();
    let lame_duck = async {
        shutdown.cancelled().await;
        service.draining.store(true, Ordering::Relaxed);
        tokio::time::sleep(limits.lame_duck).await;
    };
    tokio::pin!(lame_duck);
    tokio::select! {
        () = service.settle() => {}
        () = shutdown.cancelled() => {}
    }
    loop {
        // Connections over the bound wait in the kernel's backlog.
        let accepted = async {
            let permit = permits.clone().acquire_owned().await;
            (listener.accept().await, permit)
        };
        tokio::select! {
            (accepted, permit) = accepted => match accepted {
                Ok((stream, peer)) => {
                    let connection = connection(stream, peer, &service, &connections);
                    tokio::spawn(async move {
                        connection.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Out of file descriptors: accepting again at once would spin.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            () = &mut lame_duck => break,
        }
    }
    for (stream, peer) in queued(listener) {
        tokio::spawn(connection(stream, peer, &service, &connections));
    }
    stopping.cancel();
    tokio::time::sleep(limits.lame_duck.min(LINGER)).await;
    if tokio::time::timeout(limits.grace, connections.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("requests were still running when the grace ended");
    }
}

/// Closes the listener, once nothing is in its queue: to the kernel those connections are made, and
/// closing would reset them with the requests that they may hold.
fn queued(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else {
        return Vec::new();
    };
    let mut waiting = Vec::new();
    // It does not block: an empty queue is an error.
    while let Ok(accepted) = listener.accept() {
        waiting.push(accepted);
    }
    drop(listener);
    let adopt = |(stream, peer): (std::net::TcpStream, SocketAddr)| {
        stream.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(stream).ok()?, peer))
    };
    waiting.into_iter().filter_map(adopt).collect()
}

fn connection<C: Send + Sync + 'static>(
    stream: TcpStream,
    peer: SocketAddr,
    service: &Arc<Service<C>>,
    connections: &GracefulShutdown,
) -> impl Future<Output = ()> + use<C> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "TCP_NODELAY was not set");
    }
    let service = service.clone();
    let answer = service_fn(move |request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(service.answer(request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(MAX_HEAD_BYTES)
        .serve_connection(Stall::new(TokioIo::new(stream), WRITE_TIMEOUT), answer);
    let watched = connections.watch(served);
    async move {
        if let Err(error) = watched.await {
            tracing::debug!(%error, %peer, "a connection ended early");
        }
    }
}
