//! Messages as they are published: persistent, with headers for consumers and operators.

use contract::event::Envelope;
use events::bus::BusError;
use lapin::BasicProperties;
use lapin::types::{FieldTable, ShortString};

/// Written to disk by the broker before it confirms.
const PERSISTENT: u8 = 2;
/// CloudEvents' JSON format.
const CONTENT_TYPE: &str = "application/cloudevents+json";

/// The headers that are added to a message when it is dead-lettered.
const DEAD_LETTER_HEADERS: [&str; 4] = ["x-reason", "x-original-queue", "x-event-id", "x-death"];

/// One message, ready to be published.
pub(super) struct Message {
    pub(super) exchange: &'static str,
    pub(super) routing_key: &'static str,
    pub(super) body: Vec<u8>,
    pub(super) properties: BasicProperties,
}

pub(super) fn message(envelope: &Envelope) -> Result<Message, BusError> {
    let body = serde_json::to_vec(envelope).map_err(|why| BusError::Refused(why.to_string()))?;
    let id = ShortString::try_new(envelope.id.as_str())
        .map_err(|_| BusError::Refused(format!("the event id `{}` is too long", envelope.id)))?;
    let event_type = envelope.event_type;
    Ok(Message {
        exchange: event_type.exchange(),
        routing_key: event_type.as_str(),
        body,
        properties: persistent()
            .with_content_type(CONTENT_TYPE.into())
            .with_message_id(id)
            .with_type(event_type.as_str().into())
            .with_timestamp(envelope.time.as_second().max(0).unsigned_abs()),
    })
}

pub(super) fn persistent() -> BasicProperties {
    BasicProperties::default().with_delivery_mode(PERSISTENT)
}

/// An event for one queue only.
pub(super) fn for_queue(queue: &'static str, envelope: &Envelope) -> Result<Message, BusError> {
    Ok(Message {
        exchange: "",
        routing_key: queue,
        ..message(envelope)?
    })
}

/// A dead letter for the queue it came from only, because the other queues still have the event.
pub(super) fn redriven(queue: &'static str, body: Vec<u8>, properties: BasicProperties) -> Message {
    let mut headers = FieldTable::default();
    for (name, value) in properties.headers().iter().flat_map(FieldTable::inner) {
        if !DEAD_LETTER_HEADERS.contains(&name.as_str()) {
            headers.insert(name.clone(), value.clone());
        }
    }
    Message {
        exchange: "",
        routing_key: queue,
        body,
        properties: properties
            .with_delivery_mode(PERSISTENT)
            .with_headers(headers),
    }
}

/// A message for the dead-letter exchange: the same body, with headers added to its own.
pub(super) fn dead_letter(
    body: Vec<u8>,
    properties: BasicProperties,
    added: FieldTable,
) -> Message {
    let mut headers = properties.headers().clone().unwrap_or_default();
    for (name, value) in added.inner() {
        headers.insert(name.clone(), value.clone());
    }
    Message {
        exchange: events::bus::DEAD_LETTER,
        routing_key: "",
        body,
        properties: properties
            .with_delivery_mode(PERSISTENT)
            .with_headers(headers),
    }
}
