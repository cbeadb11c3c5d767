//! The envelope of every event (CloudEvents 1.0), and the types of events that there are.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Every type of event, with its routing key, exchange and schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EventType {
    #[serde(rename = "task.created.v1")]
    TaskCreated,
    #[serde(rename = "task.updated.v1")]
    TaskUpdated,
    #[serde(rename = "task.deleted.v1")]
    TaskDeleted,
    #[serde(rename = "user.deleted.v1")]
    UserDeleted,
}

impl EventType {
    pub const ALL: [EventType; 4] = [
        Self::TaskCreated,
        Self::TaskUpdated,
        Self::TaskDeleted,
        Self::UserDeleted,
    ];

    /// The `type` attribute; also the routing key.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TaskCreated => "task.created.v1",
            Self::TaskUpdated => "task.updated.v1",
            Self::TaskDeleted => "task.deleted.v1",
            Self::UserDeleted => "user.deleted.v1",
        }
    }

    /// The exchange that events of this type go to.
    pub fn exchange(self) -> &'static str {
        match self {
            Self::TaskCreated | Self::TaskUpdated | Self::TaskDeleted => "tasks",
            Self::UserDeleted => "users",
        }
    }

    /// The JSON Schema (2020-12) of the whole envelope.
    pub fn schema(self) -> &'static str {
        match self {
            Self::TaskCreated => include_str!("../../schemas/task.created.v1.json"),
            Self::TaskUpdated => include_str!("../../schemas/task.updated.v1.json"),
            Self::TaskDeleted => include_str!("../../schemas/task.deleted.v1.json"),
            Self::UserDeleted => include_str!("../../schemas/user.deleted.v1.json"),
        }
    }
}

/// The largest message that is read; no event of the platform is larger.
const MAX_BYTES: usize = 256 << 10;
/// The longest reason in the header of a dead letter.
const MAX_REASON_CHARS: usize = 300;

/// Why a message can never be processed. A parser's message is cut, because it may quote the input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Poison {
    #[error("it has {0} bytes, more than {MAX_BYTES}")]
    TooLarge(usize),
    #[error("it is not an event this version knows: {why:.MAX_REASON_CHARS$}", why = .0)]
    Envelope(String),
    #[error("its data is not what `{kind}` promises: {why:.MAX_REASON_CHARS$}", kind = .0.as_str(), why = .1)]
    Data(EventType, String),
    #[error("it is `{}` and came through the queue of `{}`", .found.as_str(), .queue.as_str())]
    WrongQueue { found: EventType, queue: EventType },
    #[error("its id, subject and data do not agree")]
    Inconsistent,
}

/// One event. Attribute names are those of CloudEvents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    pub specversion: SpecVersion,
    /// `subject:version`: unique, and the same however often it is delivered.
    pub id: String,
    pub source: String,
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// The id of the task or user.
    pub subject: String,
    #[serde(with = "crate::time::millis")]
    pub time: Timestamp,
    pub datacontenttype: JsonContent,
    /// The W3C trace context of the request that caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// As the type's schema describes it.
    pub data: Value,
}

/// `"1.0"` and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpecVersion {
    #[serde(rename = "1.0")]
    V1,
}

/// `"application/json"` and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JsonContent {
    #[serde(rename = "application/json")]
    Json,
}

impl Envelope {
    pub fn new(
        source: &str,
        event_type: EventType,
        subject: &str,
        version: u64,
        time: Timestamp,
        data: Value,
    ) -> Self {
        Self {
            specversion: SpecVersion::V1,
            id: format!("{subject}:{version}"),
            source: source.to_owned(),
            event_type,
            subject: subject.to_owned(),
            time,
            datacontenttype: JsonContent::Json,
            traceparent: None,
            data,
        }
    }

    /// Reads a message from the queue of this type. The caller must check `data`.
    pub fn read(body: &[u8], queue: EventType) -> Result<Self, Poison> {
        if body.len() > MAX_BYTES {
            return Err(Poison::TooLarge(body.len()));
        }
        let event: Self =
            serde_json::from_slice(body).map_err(|why| Poison::Envelope(why.to_string()))?;
        match event.event_type == queue {
            true => Ok(event),
            false => Err(Poison::WrongQueue {
                found: event.event_type,
                queue,
            }),
        }
    }

    /// Adds the trace context. One that is not well-formed is left out, because it comes from outside.
    #[must_use]
    pub fn traced(mut self, traceparent: Option<&str>) -> Self {
        self.traceparent = traceparent
            .filter(|text| is_traceparent(text))
            .map(str::to_owned);
        self
    }
}

/// `00-` 32 hex digits `-` 16 hex digits `-` 2 hex digits (W3C Trace Context, level 1).
fn is_traceparent(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b) || b == b'-';
    lengths.eq([2, 32, 16, 2]) && text.bytes().all(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_trace_context_is_carried_on() {
        let event = || {
            let time = Timestamp::UNIX_EPOCH;
            Envelope::new("/t", EventType::TaskCreated, "a", 1, time, Value::Null)
        };
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(
            event().traced(Some(good)).traceparent.as_deref(),
            Some(good)
        );
        for bad in [
            "",
            "00-0af7-b7ad-01",
            &good.to_uppercase(),
            &good.replace('-', "_"),
        ] {
            assert_eq!(event().traced(Some(bad)).traceparent, None, "{bad}");
        }
    }
}
