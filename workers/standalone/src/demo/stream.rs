//! The user's notifications as they arrive: the event stream is read beside the story, so that each
//! event carries the moment at which it came.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use shared::http::sse::{Event, Parser};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// One notification from the stream.
pub(super) struct Arrival {
    pub(super) at: Instant,
    /// The user's own sequence.
    pub(super) sequence: u64,
    pub(super) notification: Value,
}

pub(super) struct Stream {
    events: mpsc::Receiver<(Instant, Event)>,
    /// Ends the reader, and with it the connection, when the stream is dropped.
    _reader: JoinSet<()>,
}

impl Stream {
    pub(super) fn read(body: Incoming) -> Self {
        let (sender, events) = mpsc::channel(64);
        let mut reader = JoinSet::new();
        reader.spawn(read(body, sender));
        Self {
            events,
            _reader: reader,
        }
    }

    /// The next notification, or `None` when none comes in time.
    pub(super) async fn next_within(&mut self, wait: Duration) -> anyhow::Result<Option<Arrival>> {
        let Ok(next) = tokio::time::timeout(wait, self.events.recv()).await else {
            return Ok(None);
        };
        let (at, event) = next.context("the event stream ended before its time")?;
        let sequence = event.id.as_deref().and_then(|id| id.parse().ok());
        let Some(sequence) = sequence else {
            bail!("an event of the stream has no number as its id: {event:?}");
        };
        let notification = serde_json::from_str(&event.data)
            .with_context(|| format!("an event's data is not JSON: {event:?}"))?;
        Ok(Some(Arrival {
            at,
            sequence,
            notification,
        }))
    }
}

async fn read(mut body: Incoming, events: mpsc::Sender<(Instant, Event)>) {
    let mut parser = Parser::default();
    // A stream that breaks off or holds nonsense ends here: the reader sees the channel close.
    while let Some(Ok(frame)) = body.frame().await {
        let chunk = frame.into_data().unwrap_or_default();
        if parser.push(&chunk).is_err() {
            return;
        }
        while let Some(event) = parser.event() {
            if events.send((Instant::now(), event)).await.is_err() {
                return;
            }
        }
    }
}
