//! A user's event stream of notifications. A task of its own reads it, so that each event carries the
//! time of its arrival.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use runtime::sse::{Event, Parser};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// A notification from the stream.
pub(crate) struct Arrival {
    pub(crate) at: Instant,
    /// Its number in the user's sequence.
    pub(crate) sequence: u64,
    pub(crate) notification: Value,
}

pub(crate) struct Stream {
    events: mpsc::Receiver<(Instant, Event)>,
    /// Ends the reader, and with it the connection, when the stream is dropped.
    _reader: JoinSet<()>,
}

impl Stream {
    pub(crate) fn read(body: Incoming) -> Self {
        let (sender, events) = mpsc::channel(64);
        let mut reader = JoinSet::new();
        reader.spawn(read(body, sender));
        Self {
            events,
            _reader: reader,
        }
    }

    /// The next notification, or `None` if none arrives within `wait`.
    pub(crate) async fn next_within(&mut self, wait: Duration) -> anyhow::Result<Option<Arrival>> {
        match tokio::time::timeout(wait, self.next()).await {
            Ok(arrival) => arrival.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// The next notification. Cancel-safe: no notification is lost if the future is dropped.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Arrival> {
        let next = self.events.recv().await;
        let (at, event) = next.context("the event stream ended early")?;
        let sequence = event.id.as_deref().and_then(|id| id.parse().ok());
        let Some(sequence) = sequence else {
            bail!("an event of the stream has no number as its id: {event:?}");
        };
        let notification = serde_json::from_str(&event.data)
            .with_context(|| format!("an event's data is not JSON: {event:?}"))?;
        Ok(Arrival {
            at,
            sequence,
            notification,
        })
    }
}

async fn read(mut body: Incoming, events: mpsc::Sender<(Instant, Event)>) {
    let mut parser = Parser::default();
    // If the stream breaks or is malformed, this ends, and the receiver sees the channel close.
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
