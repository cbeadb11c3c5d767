//! A listener inside the platform: a deadline on every request's head, a bounded number of connections, and a
//! drain on shutdown. A [`Service`] decides what it answers.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::Body;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::BoxError;
use crate::operations::Operations;
use crate::stall::Stall;

/// Answers the requests of a listener.
pub trait Service: Send + Sync + 'static {
    type Body: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static;

    /// Answers every request but those to the paths of [`Operations`].
    fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// Answers for the process itself.
    fn operations(&self) -> &Operations;
}

/// Bounds of a listener and the pace of its drain.
#[derive(Debug, Clone)]
pub struct Limits {
    pub max_connections: usize,
    /// How long the first connections wait for the required dependencies. After a quick restart, gateways that
    /// have not noticed the absence send requests at once, and the worker would refuse them while it connects
    /// to its store.
    pub settle: Duration,
    /// How long requests are still accepted after the signal, while `/readyz` already answers 503.
    pub lame_duck: Duration,
    /// How long the whole drain may take, the lame-duck time included.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 20_000,
            settle: Duration::from_secs(2),
            lame_duck: Duration::from_secs(3),
            grace: Duration::from_secs(25),
        }
    }
}

/// How long a request's head may take, and how long an idle connection is kept. Longer than the gateway keeps
/// its idle upstream connections, so the gateway never writes to a connection that is closing.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may leave sent bytes unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_HEAD_BYTES: usize = 32 << 10;
/// How long idle connections are kept after the listener is closed.
const LINGER: Duration = Duration::from_millis(250);

/// Serves until `shutdown`, then drains: it fails readiness, then closes the listener, then closes idle
/// connections, and lets running requests finish within the grace. `stopping` is cancelled when streams should
/// end.
///
/// During the drain every answer has `Connection: close`. So a gateway that has not noticed the drain keeps no
/// connection to which it could write a request just before it is closed.
pub async fn serve<S: Service>(
    listener: TcpListener,
    service: S,
    limits: Limits,
    shutdown: CancellationToken,
    stopping: CancellationToken,
) {
    let service = Arc::new(service);
    let operations = service.operations();
    let permits = Arc::new(Semaphore::new(limits.max_connections));
    let connections = GracefulShutdown::new();
    tokio::select! {
        () = settle(operations, limits.settle) => {}
        () = shutdown.cancelled() => {}
    }
    let lame_duck = async {
        shutdown.cancelled().await;
        operations.start_draining();
        let end = Instant::now() + limits.grace;
        tokio::time::sleep(limits.lame_duck).await;
        end
    };
    tokio::pin!(lame_duck);
    let end = loop {
        // Connections beyond the bound wait in the kernel's backlog.
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
                    // Out of file descriptors. Accepting again at once would spin.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            end = &mut lame_duck => break end,
        }
    };
    for (stream, peer) in queued(listener) {
        tokio::spawn(connection(stream, peer, &service, &connections));
    }
    stopping.cancel();
    tokio::time::sleep(limits.lame_duck.min(LINGER)).await;
    if tokio::time::timeout_at(end, connections.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("requests were still running when the grace ended");
    }
}

/// Waits until requests can be answered, at most for `limit`.
async fn settle(operations: &Operations, limit: Duration) {
    let settled = async {
        while !operations.dependencies_are_there().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(limit, settled).await.ok();
}

/// Accepts the connections in the listener's backlog, then closes it. The kernel has established these
/// connections already, and a close would reset them with any requests that they hold.
fn queued(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else {
        return Vec::new();
    };
    let mut waiting = Vec::new();
    // The listener is non-blocking, so an empty backlog is an error.
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

fn connection<S: Service>(
    stream: TcpStream,
    peer: SocketAddr,
    service: &Arc<S>,
    connections: &GracefulShutdown,
) -> impl Future<Output = ()> + use<S> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "TCP_NODELAY was not set");
    }
    let service = service.clone();
    let answer = service_fn(move |request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(answer(&*service, request).await) }
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

async fn answer<S: Service>(
    service: &S,
    request: Request<Incoming>,
) -> Response<Either<Full<Bytes>, S::Body>> {
    let operations = service.operations();
    if let Some(response) = operations.answer(request.uri().path()).await {
        return response.map(Either::Left);
    }
    let mut response = service.answer(request).await.map(Either::Right);
    if operations.is_draining() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}
