//! The way in: reads the head of every request whole, within its deadline and its bounds, before
//! any parser sees it.
//!
//! Pingora's own reader has no deadline for a whole head, repairs some targets, takes bare line
//! feeds, and answers what it cannot read before any of our code runs. So it is handed only heads
//! that have one reading ([`canonical::head`]), as bytes that were already read. In place of any
//! other head it is handed a short one, with the [`Refusal`] as the connection's context, so that
//! what is refused here is written, counted and logged like every refusal.
//!
//! One [`HeadReader`] for each listener; [`crate::request::proxy`] comes next. It must never answer by itself,
//! change a head, or look at a body.

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

/// Less than the workers take (32 KiB, 100 headers), so that the gateway's own headers fit.
const MAX_HEAD_BYTES: usize = 24 << 10;
const MAX_HEADERS: usize = 80;
const MAX_TARGET_BYTES: usize = 8 << 10;

/// Room for most heads.
const FIRST_READ: usize = 4 << 10;

/// A connection is closed after this many requests, so that memory it gathered is freed.
const REQUESTS_PER_CONNECTION: u32 = 100_000;

/// Feeds the proxy with requests.
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

    /// The next request of a connection; none where it ended, or nothing came in time. What has
    /// begun is read to its end, also when everything else stops.
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
            // Its client knows of no end: it has had no answer to say so. `Drain` waits for it.
            false => timeout(head_timeout, first).await,
        };
        first.ok()?.ok().filter(|length| *length > 0)?;
        let _begun = self.lifecycle.request_started();
        read_head(stream, bytes, head_timeout).await
    }
}

/// What is done before the stop, or in its first moment: bytes that the kernel had by then, and the
/// runtime had not looked for, are read.
async fn until_stopped<T>(stop: &mut ShutdownWatch, done: impl Future<Output = T>) -> Option<T> {
    let stopped = async {
        // Fails only when the doors are gone, and then the process ends.
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
            // The whole head is there: after the first poll the request counts as running.
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

/// What the proxy reads first.
struct RequestStart {
    /// A whole head, and what came with it.
    bytes: BytesMut,
    /// Why the request goes no further; the head then only stands in for it.
    refusal: Option<Refusal>,
}

impl RequestStart {
    fn new(bytes: BytesMut, refusal: Option<Refusal>) -> Self {
        match refusal {
            None => Self { bytes, refusal },
            Some(refusal) => Self {
                bytes: placeholder_head(&bytes),
                // Where its body ends is anybody's guess.
                refusal: Some(refusal.closing()),
            },
        }
    }
}

/// Reads on until the bytes start with a whole head, or with what can be none.
async fn read_head(
    stream: &mut Stream,
    mut bytes: BytesMut,
    head_timeout: Duration,
) -> Option<RequestStart> {
    let reading = timeout(head_timeout, async {
        let mut checked = 0;
        loop {
            // Only a line's end can complete a head, and most other pieces cannot break one.
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

/// Whether the bytes start with a head that may go on; false while more of it must come.
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
    // Admission reads it again, as its evidence.
    canonical::path(head.target)?;
    Ok(true)
}

/// A head that any parser takes, with as much of the refused one's method and path as can be read:
/// they are for the log and for the answer.
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
