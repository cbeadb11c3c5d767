//! Reads the head of every request whole, within its deadline and its size limits, before any parser
//! sees it.
//!
//! Pingora's own reader has no deadline for a whole head, repairs some targets, accepts bare line
//! feeds, and answers a head that it cannot read before any of our code runs. So it only gets heads
//! that can be read in one way ([`canonical::head`]), as bytes that were already read. For any other
//! head it gets a short placeholder, with the [`Refusal`] as the connection's context. A request that
//! is refused here is thus answered, counted and logged like any other.
//!
//! Each listener has one [`HeadReader`]; [`crate::request::proxy`] comes next. It must never answer by
//! itself, change a head, or look at a body.

use std::any::Any;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::BytesMut;
use futures_util::poll;
use http::uri::PathAndQuery;
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ServerApp};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use tokio::io::AsyncReadExt;
use tokio::time::{sleep, timeout};

use crate::connection::lifecycle::{IDLE_READ_GRACE, Lifecycle};
use crate::request::active_config::ActiveConfig;
use crate::request::canonical::{self, METHODS, Malformed};
use crate::request::refusal::{MAX_INSTANCE, Refusal};

/// Less than the workers accept (32 KiB, 100 headers), which leaves room for the gateway's headers.
const MAX_HEAD_BYTES: usize = 24 << 10;
const MAX_HEADERS: usize = 80;
const MAX_TARGET_BYTES: usize = 8 << 10;

/// Bytes of the first read: enough for most heads.
const FIRST_READ: usize = 4 << 10;

/// A connection is closed after this many requests, to free the memory that it accumulated.
const REQUESTS_PER_CONNECTION: u32 = 100_000;

/// Reads requests off connections and passes them to the proxy.
pub(crate) struct HeadReader<P> {
    proxy: Arc<P>,
    config: Arc<ArcSwap<ActiveConfig>>,
    lifecycle: Arc<Lifecycle>,
}

impl<P: HttpServerApp + Send + Sync + 'static> HeadReader<P> {
    pub(crate) fn new(
        proxy: P,
        config: Arc<ArcSwap<ActiveConfig>>,
        lifecycle: Arc<Lifecycle>,
    ) -> Self {
        Self {
            proxy: Arc::new(proxy),
            config,
            lifecycle,
        }
    }

    /// The next request of a connection. None if the connection ended, or nothing arrived in time. A
    /// head that has started is read to its end, even after the stop.
    async fn next_request(
        &self,
        stream: &mut Stream,
        reused: bool,
        stop: &mut ShutdownWatch,
    ) -> Option<RequestStart> {
        let (head_timeout, idle_timeout) = {
            let config = self.config.load();
            (config.head_timeout, config.idle_timeout)
        };
        let mut bytes = BytesMut::with_capacity(FIRST_READ);
        let first = stream.read_buf(&mut bytes);
        let first = match reused {
            true => until_stopped(stop, timeout(idle_timeout, first)).await?,
            // No response has told this client yet that the connection will close, so the stop does
            // not cut it short. `Drain` waits for it.
            false => timeout(head_timeout, first).await,
        };
        first.ok()?.ok().filter(|length| *length > 0)?;
        let _running = self.lifecycle.request_started();
        read_head(stream, bytes, head_timeout).await
    }
}

/// Waits for `done` until the stop, and for [`IDLE_READ_GRACE`] after it: bytes that the kernel had
/// received by then, but that the runtime had not polled for, are still read.
async fn until_stopped<T>(stop: &mut ShutdownWatch, done: impl Future<Output = T>) -> Option<T> {
    let stopped = async {
        // Fails only when the close handle is gone, which means that the process ends.
        stop.wait_for(|stop| *stop).await.ok();
        sleep(IDLE_READ_GRACE).await;
    };
    tokio::select! {
        biased;
        done = done => Some(done),
        () = stopped => None,
    }
}

#[async_trait]
impl<P: HttpServerApp + Send + Sync + 'static> ServerApp for HeadReader<P> {
    async fn process_new(
        self: &Arc<Self>,
        mut stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let mut stop = shutdown.clone();
        let mut reused: Option<HttpPersistentSettings> = None;
        let mut pending = Some(self.lifecycle.connection_accepted());
        loop {
            let start = self
                .next_request(&mut stream, reused.is_some(), &mut stop)
                .await?;
            let mut session = ServerSession::new_http1(stream);
            match reused {
                Some(settings) => settings.apply_to_session(&mut session),
                None => session.set_keepalive_reuses_remaining(Some(REQUESTS_PER_CONNECTION)),
            }
            session.set_pipelined_prefix(start.bytes);
            let refusal = start
                .refusal
                .map(|why| Box::new(why) as Box<dyn Any + Send + Sync>);
            session.set_connection_user_context(refusal);
            let mut serving = pin!(self.proxy.process_new_http(session, shutdown));
            // The whole head was read, so the first poll makes the request count as running.
            let served = poll!(&mut serving);
            drop(pending.take());
            let next = match served {
                Poll::Ready(next) => next,
                Poll::Pending => serving.await,
            };
            (stream, reused) = next?.consume();
        }
    }

    async fn cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}

/// What the proxy is given to read.
struct RequestStart {
    /// A whole head, and the bytes that arrived with it.
    bytes: BytesMut,
    /// Why the request is refused. The head is then only a placeholder.
    refusal: Option<Refusal>,
}

impl RequestStart {
    fn new(bytes: BytesMut, refusal: Option<Refusal>) -> Self {
        match refusal {
            None => Self { bytes, refusal },
            Some(refusal) => Self {
                bytes: placeholder_head(&bytes),
                // Nobody can tell where the body of such a request ends.
                refusal: Some(refusal.closing()),
            },
        }
    }
}

/// Reads until the bytes start with a whole head, or with something that cannot become one.
async fn read_head(
    stream: &mut Stream,
    mut bytes: BytesMut,
    head_timeout: Duration,
) -> Option<RequestStart> {
    let reading = timeout(head_timeout, async {
        let mut checked = 0;
        loop {
            // Only the end of a line can complete a head, and most errors are found there, too.
            if checked == 0 || bytes[checked..].contains(&b'\n') || bytes.len() > MAX_HEAD_BYTES {
                match is_whole(&bytes) {
                    Ok(true) => return Some(None),
                    Ok(false) => checked = bytes.len(),
                    Err(refusal) => return Some(Some(refusal)),
                }
            }
            bytes.reserve(FIRST_READ);
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        }
    });
    let refusal = match reading.await {
        Ok(ended) => ended?,
        Err(_) => Some(Refusal::head_timeout()),
    };
    Some(RequestStart::new(bytes, refusal))
}

/// Whether the bytes start with a whole head that is not refused; false while more bytes are needed.
fn is_whole(bytes: &[u8]) -> Result<bool, Refusal> {
    let too_large = || Refusal::header_too_large(MAX_HEAD_BYTES, MAX_HEADERS);
    let head = match canonical::head(bytes) {
        Ok(head) => head,
        Err(Malformed::Incomplete) if bytes.len() <= MAX_HEAD_BYTES => return Ok(false),
        Err(Malformed::Incomplete) if !bytes.contains(&b'\n') => {
            return Err(Refusal::uri_too_long(MAX_TARGET_BYTES));
        }
        Err(Malformed::Incomplete) => return Err(too_large()),
        Err(why) => return Err(why.into()),
    };
    if head.target.len() > MAX_TARGET_BYTES {
        return Err(Refusal::uri_too_long(MAX_TARGET_BYTES));
    }
    if head.length > MAX_HEAD_BYTES || head.headers > MAX_HEADERS {
        return Err(too_large());
    }
    if head.method == "CONNECT" {
        return Err(Refusal::method_not_served());
    }
    // Admission parses the path again, because it needs a `CanonicalPath`.
    canonical::path(head.target)?;
    Ok(true)
}

/// A head that any parser accepts, with the method and path of the refused head as far as these can be
/// read. They go into the log line and the response.
fn placeholder_head(refused: &[u8]) -> BytesMut {
    let line = refused.split(|b| matches!(b, b'\r' | b'\n')).next();
    let mut words = line.unwrap_or_default().split(|&b| b == b' ');
    let method = words.next().and_then(|word| {
        let is = |method: &&&str| method.as_bytes() == word;
        METHODS.iter().find(is).copied()
    });
    let path = words.next().and_then(|target| {
        let path = target.split(|&b| b == b'?').next()?;
        let path = std::str::from_utf8(&path[..path.len().min(MAX_INSTANCE)]).ok()?;
        let visible = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic());
        (visible && path.parse::<PathAndQuery>().is_ok()).then_some(path)
    });
    let (method, path) = (method.unwrap_or("-"), path.unwrap_or("/"));
    BytesMut::from(format!("{method} {path} HTTP/1.1\r\nhost: -\r\n\r\n").as_bytes())
}

#[cfg(test)]
mod tests;
