//! An open stream of server-sent events, read with a deadline.

use std::time::Duration;

use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use runtime::sse::{Event, Parser};
use tokio::time::{Instant, timeout_at};

/// One event, with the fields that were sent with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseEvent {
    pub id: Option<String>,
    pub event: Option<String>,
    pub data: String,
}

impl From<Event> for SseEvent {
    fn from(event: Event) -> Self {
        Self {
            id: event.id,
            event: event.name,
            data: event.data,
        }
    }
}

impl SseEvent {
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.data)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }
}

/// Why there is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoEvent {
    /// The stream is open, and no event came in time.
    Silence,
    /// The server ended the stream, or the connection broke.
    Ended,
}

/// An open stream of events; dropping it closes the connection.
pub struct EventStream {
    pub headers: HeaderMap,
    body: Incoming,
    parser: Parser,
}

impl EventStream {
    pub(super) fn new(headers: HeaderMap, body: Incoming) -> Self {
        Self {
            headers,
            body,
            parser: Parser::default(),
        }
    }

    /// The next event. Panics if none comes within 10 s.
    pub async fn next(&mut self) -> SseEvent {
        let next = self.next_within(Duration::from_secs(10)).await;
        next.unwrap_or_else(|reason| panic!("no event within 10 s: {reason:?}"))
    }

    pub async fn next_within(&mut self, deadline: Duration) -> Result<SseEvent, NoEvent> {
        let end = Instant::now() + deadline;
        loop {
            if let Some(event) = self.parser.event() {
                return Ok(event.into());
            }
            self.fill(end).await?;
        }
    }

    /// The number of comments (heartbeats) so far.
    pub fn comments(&self) -> usize {
        self.parser.comments()
    }

    async fn fill(&mut self, end: Instant) -> Result<(), NoEvent> {
        match timeout_at(end, self.body.frame()).await {
            Err(_) => Err(NoEvent::Silence),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    self.parser
                        .push(&data)
                        .unwrap_or_else(|error| panic!("{error}"));
                }
                Ok(())
            }
            Ok(Some(Err(_)) | None) => Err(NoEvent::Ended),
        }
    }
}
