//! Parses server-sent events (WHATWG HTML §9.2.6) from the chunks of a body, however they are split.
//!
//! It does no I/O and holds at most one event: the caller pushes chunks and takes events.

use std::mem::take;

use bytes::{Buf, BytesMut};

/// The longest event; no event of the platform is longer.
const MAX_EVENT_BYTES: usize = 1 << 20;

/// One event, with the fields that were sent with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub id: Option<String>,
    pub name: Option<String>,
    pub data: String,
}

/// The stream holds an event of more than a mebibyte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is longer than {MAX_EVENT_BYTES} bytes")]
pub struct TooLong;

#[derive(Debug, Default)]
pub struct Parser {
    buffer: BytesMut,
    /// The event whose blank line has not come yet.
    partial: Event,
    has_data: bool,
    comments: usize,
    /// The last line ended in CR, so a LF that follows belongs to it.
    after_cr: bool,
}

impl Parser {
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), TooLong> {
        let held = self.buffer.len() + self.partial.data.len() + chunk.len();
        if held > MAX_EVENT_BYTES {
            return Err(TooLong);
        }
        self.buffer.extend_from_slice(chunk);
        Ok(())
    }

    /// The next whole event, if it has arrived. Fields without data are no event.
    pub fn event(&mut self) -> Option<Event> {
        while let Some(line) = self.line() {
            if line.is_empty() {
                let event = take(&mut self.partial);
                if take(&mut self.has_data) {
                    return Some(event);
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            self.field(field, value.strip_prefix(' ').unwrap_or(value));
        }
        None
    }

    /// The number of comments (heartbeats) so far.
    pub fn comments(&self) -> usize {
        self.comments
    }

    fn field(&mut self, field: &str, value: &str) {
        match field {
            "" => self.comments += 1,
            "id" => self.partial.id = Some(value.to_owned()),
            "event" => self.partial.name = Some(value.to_owned()),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.partial.data.push('\n');
                }
                self.partial.data.push_str(value);
            }
            _ => {}
        }
    }

    fn line(&mut self) -> Option<String> {
        if self.after_cr && !self.buffer.is_empty() {
            if self.buffer[0] == b'\n' {
                self.buffer.advance(1);
            }
            self.after_cr = false;
        }
        let end = self
            .buffer
            .iter()
            .position(|byte| matches!(byte, b'\r' | b'\n'))?;
        let line = self.buffer.split_to(end);
        self.after_cr = self.buffer.get_u8() == b'\r';
        Some(String::from_utf8_lossy(&line).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &str = ": hello\n\nid: 7\nevent: notification\ndata: {\"a\":\ndata:1}\n\n\
        event: lonely\n\nretry: 5\ndata\n\n:\r\ndata: x\r\n\r\ndata: y\r\rdata: cut";

    fn event(id: Option<&str>, name: Option<&str>, data: &str) -> Event {
        Event {
            id: id.map(str::to_owned),
            name: name.map(str::to_owned),
            data: data.to_owned(),
        }
    }

    fn events(chunks: impl IntoIterator<Item = impl AsRef<[u8]>>) -> (Vec<Event>, usize) {
        let mut parser = Parser::default();
        let mut events = Vec::new();
        for chunk in chunks {
            parser.push(chunk.as_ref()).unwrap();
            events.extend(std::iter::from_fn(|| parser.event()));
        }
        (events, parser.comments())
    }

    #[test]
    fn fields_comments_and_every_line_end_are_read_as_the_standard_says() {
        let (events, comments) = events([STREAM]);
        assert_eq!(
            events,
            [
                event(Some("7"), Some("notification"), "{\"a\":\n1}"),
                event(None, None, ""),
                event(None, None, "x"),
                event(None, None, "y"),
            ]
        );
        assert_eq!(comments, 2);
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut parser = Parser::default();
        assert_eq!(parser.push(&vec![b'x'; MAX_EVENT_BYTES]), Ok(()));
        assert_eq!(parser.push(b"x"), Err(TooLong));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_the_chunks_are_cut(cut in 0..STREAM.len(), size in 1..9usize) {
            let (head, tail) = STREAM.as_bytes().split_at(cut);
            let chunks = std::iter::once(head).chain(tail.chunks(size));
            prop_assert_eq!(events(chunks), events([STREAM]));
        }
    }
}
