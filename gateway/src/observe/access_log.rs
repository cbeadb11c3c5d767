//! One JSON line per request on standard output, sampled as configured. Lines collect in a bounded
//! buffer, which a background task writes, so that a slow reader never slows down a request.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pingora::Error;
use pingora_proxy::Session;
use serde::Serialize;

use crate::request::ctx::RequestCtx;
use crate::request::exchange::sent_response;

/// Bytes. When the buffer holds more, further lines are dropped and counted.
const MAX_BUFFER: usize = 4 << 20;
const FLUSH_EVERY: Duration = Duration::from_millis(100);

/// The access log, and its lines that are not written yet.
pub struct AccessLog {
    /// One in this many requests is logged; 0 logs none.
    keep_one_in: u64,
    seen: AtomicU64,
    buffer: Mutex<Vec<u8>>,
    dropped: AtomicU64,
}

#[derive(Serialize)]
struct AccessLine<'a> {
    time: String,
    request_id: &'a str,
    client: Option<String>,
    user_id: Option<&'a str>,
    method: &'a str,
    path: &'a str,
    service: &'a str,
    upstream: Option<String>,
    status: u16,
    bytes_in: u64,
    bytes_out: usize,
    duration_ms: f64,
    first_byte_ms: Option<f64>,
    refusal: Option<&'static str>,
    error: Option<String>,
}

impl AccessLog {
    /// `sample` is the share of requests that are logged, from 0 to 1.
    pub fn new(sample: f64) -> Self {
        Self {
            keep_one_in: if sample > 0.0 {
                (1.0 / sample).round() as u64
            } else {
                0
            },
            seen: AtomicU64::new(0),
            buffer: Mutex::default(),
            dropped: AtomicU64::new(0),
        }
    }

    pub fn record(&self, session: &Session, error: Option<&Error>, ctx: &RequestCtx) {
        let turn = self.seen.fetch_add(1, Ordering::Relaxed);
        if self.keep_one_in == 0 || !turn.is_multiple_of(self.keep_one_in) {
            return;
        }
        let request = session.req_header();
        let admitted = ctx.admitted.as_ref();
        let millis = |duration: Duration| duration.as_micros() as f64 / 1e3;
        let line = AccessLine {
            time: contract::time::rfc3339(jiff::Timestamp::now()),
            request_id: &ctx.request_id,
            client: admitted.map(|admitted| admitted.client().to_string()),
            user_id: admitted
                .and_then(|admitted| admitted.identity())
                .map(|identity| identity.user_id_str()),
            method: request.method.as_str(),
            // Never the query: it may hold secrets.
            path: bounded(request.uri.path()),
            service: ctx.service(),
            upstream: ctx
                .replica
                .as_ref()
                .map(|replica| replica.address().to_string()),
            status: status(session),
            bytes_in: ctx.body_bytes,
            bytes_out: session.body_bytes_sent(),
            duration_ms: millis(ctx.started.elapsed()),
            first_byte_ms: ctx.first_byte.map(millis),
            refusal: ctx.refusal.as_ref().map(|refusal| refusal.kind().uri()),
            error: error.map(|error| error.etype().as_str().to_owned()),
        };
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.len() > MAX_BUFFER {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        match serde_json::to_writer(&mut *buffer, &line) {
            Ok(()) => buffer.push(b'\n'),
            Err(error) => tracing::error!(%error, "an access line could not be written"),
        }
    }

    /// Lines that were dropped because the reader was too slow.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Writes the buffered lines periodically, forever.
    pub async fn run(&self) {
        loop {
            tokio::time::sleep(FLUSH_EVERY).await;
            self.flush().await;
        }
    }

    /// Writes the buffered lines once.
    pub async fn flush(&self) {
        let lines =
            std::mem::take(&mut *self.buffer.lock().unwrap_or_else(PoisonError::into_inner));
        if lines.is_empty() {
            return;
        }
        let written =
            tokio::task::spawn_blocking(move || std::io::stdout().write_all(&lines)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, "the access log was not written");
        }
    }
}

/// The part of a path that goes into a log line.
fn bounded(path: &str) -> &str {
    path.get(..1024).unwrap_or(path)
}

/// The status that was sent, or 499 (as in nginx) if the client disconnected before one was.
pub fn status(session: &Session) -> u16 {
    sent_response(session).map_or(499, |head| head.status.as_u16())
}
