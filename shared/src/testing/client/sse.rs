//! Reads a stream of server-sent events as the standard has it: fields by line, an event for each
//! blank line, comments left out.

use std::time::Duration;

use bytes::BytesMut;
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

/// One event, with the fields that were sent with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseEvent {
    pub id: Option<String>,
    pub event: Option<String>,
    pub data: String,
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
    /// The stream is open, and nothing came in time.
    Silence,
    /// The server ended the stream, or the connection broke.
    Ended,
}

/// An open stream of events; dropping it closes the connection.
pub struct EventStream {
    pub headers: HeaderMap,
    body: Incoming,
    buffer: BytesMut,
    /// The event whose blank line has not come yet, and whether it has data.
    partial: SseEvent,
    has_data: bool,
    comments: usize,
}

impl EventStream {
    pub(super) fn new(headers: HeaderMap, body: Incoming) -> Self {
        Self {
            headers,
            body,
            buffer: BytesMut::new(),
            partial: SseEvent::default(),
            has_data: false,
            comments: 0,
        }
    }

    /// The next event; panics when none comes within 10 s.
    pub async fn next(&mut self) -> SseEvent {
        let next = self.next_within(Duration::from_secs(10)).await;
        next.unwrap_or_else(|reason| panic!("no event within 10 s: {reason:?}"))
    }

    pub async fn next_within(&mut self, deadline: Duration) -> Result<SseEvent, NoEvent> {
        let end = Instant::now() + deadline;
        loop {
            while let Some(line) = self.line() {
                if let Some(event) = self.take_line(&line) {
                    return Ok(event);
                }
            }
            self.fill(end).await?;
        }
    }

    fn take_line(&mut self, line: &str) -> Option<SseEvent> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.partial);
            // Without data there is no event.
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => self.comments += 1,
            "id" => self.partial.id = Some(value.to_owned()),
            "event" => self.partial.event = Some(value.to_owned()),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.partial.data.push('\n');
                }
                self.partial.data.push_str(value);
            }
            _ => {}
        }
        None
    }

    /// How many comments came so far: heartbeats.
    pub fn comments(&self) -> usize {
        self.comments
    }

    fn line(&mut self) -> Option<String> {
        let end = self.buffer.iter().position(|byte| *byte == b'\n')?;
        let line = self.buffer.split_to(end + 1);
        let text = String::from_utf8_lossy(&line);
        Some(text.trim_end_matches(['\r', '\n']).to_owned())
    }

    async fn fill(&mut self, end: Instant) -> Result<(), NoEvent> {
        match timeout_at(end, self.body.frame()).await {
            Err(_) => Err(NoEvent::Silence),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    self.buffer.extend_from_slice(&data);
                }
                Ok(())
            }
            Ok(Some(Err(_)) | None) => Err(NoEvent::Ended),
        }
    }
}
