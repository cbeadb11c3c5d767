//! YAML text → a tree whose nodes know their place.
//!
//! Built from the parser's events and not by a ready-made loader, because a loader silently keeps
//! one of two equal keys. Scalars stay text: what they mean is for their reader to say. Anchors,
//! aliases and tags are refused; a configuration means what it shows.

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::error::{ConfigError, Place};

/// Deeper nesting than any configuration needs, and shallow enough for the stack.
const MAX_DEPTH: usize = 32;

/// A value and where it starts.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Null,
    Scalar(String),
    List(Vec<Node>),
    /// In the order of the file; no key twice.
    Map(Vec<(Key, Node)>),
}

#[derive(Debug)]
pub(super) struct Key {
    pub(super) place: Place,
    pub(super) name: String,
}

/// Reads the one document in `text`. A syntax error ends the reading; what else is wrong goes to
/// `report`, and the tree is without it.
pub(super) fn parse(text: &str, report: &dyn Fn(ConfigError)) -> Result<Node, ConfigError> {
    let mut events = Events {
        parser: Parser::new_from_str(text),
        report,
    };
    loop {
        let (event, span) = events.next()?;
        match event {
            Event::StreamStart | Event::DocumentStart(_) => {}
            Event::StreamEnd => return Err(wrong(Place::START, "the file is empty")),
            first => {
                let root = events.node(first, span, 0)?;
                return events.end_of_document().map(|()| root);
            }
        }
    }
}

struct Events<'a, 'r> {
    parser: Parser<'a, StrInput<'a>>,
    report: &'r dyn Fn(ConfigError),
}

impl<'a> Events<'a, '_> {
    fn next(&mut self) -> Result<(Event<'a>, Span), ConfigError> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(why)) => Err(scan_error(&why)),
            None => Err(wrong(Place::START, "the file ends too early")),
        }
    }

    /// The node that begins with `event`.
    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, ConfigError> {
        let place = place(&span.start);
        if depth > MAX_DEPTH {
            return Err(wrong(place, "nested too deeply"));
        }
        let kind = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_shorthand(place, anchor != 0 || tag.is_some());
                scalar(&text, style)
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_shorthand(place, anchor != 0 || tag.is_some());
                self.list(depth)?
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_shorthand(place, anchor != 0 || tag.is_some());
                self.map(depth)?
            }
            Event::Alias(_) => {
                self.refuse_shorthand(place, true);
                Kind::Null
            }
            _ => return Err(wrong(place, "a value is missing here")),
        };
        Ok(Node { place, kind })
    }

    fn list(&mut self, depth: usize) -> Result<Kind, ConfigError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Kind::List(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Kind, ConfigError> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        loop {
            let key = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Kind::Map(entries)),
                (Event::Scalar(name, ..), span) => Key {
                    place: place(&span.start),
                    name: name.into_owned(),
                },
                (_, span) => return Err(wrong(place(&span.start), "a key must be a plain text")),
            };
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            match entries.iter().find(|(other, _)| other.name == key.name) {
                None => entries.push((key, value)),
                Some((first, _)) => {
                    let (name, line) = (&key.name, first.place.line);
                    let message = format!("the key `{name}` stands already in line {line}");
                    (self.report)(wrong(key.place, &message));
                }
            }
        }
    }

    fn refuse_shorthand(&self, place: Place, used: bool) {
        let message = "anchors (&), aliases (*) and tags (!) are not allowed; write the value out";
        if used {
            (self.report)(wrong(place, message));
        }
    }

    fn end_of_document(&mut self) -> Result<(), ConfigError> {
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(()),
                (Event::DocumentEnd, _) => {}
                (_, span) => {
                    return Err(wrong(place(&span.start), "only one document is allowed"));
                }
            }
        }
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Kind {
    let plain = style == ScalarStyle::Plain;
    match text {
        "" | "~" | "null" | "Null" | "NULL" if plain => Kind::Null,
        _ => Kind::Scalar(text.to_owned()),
    }
}

fn place(marker: &Marker) -> Place {
    // The parser counts lines from one and columns from zero.
    Place {
        line: marker.line().max(1),
        column: marker.col() + 1,
    }
}

fn scan_error(why: &ScanError) -> ConfigError {
    wrong(place(why.marker()), &format!("not YAML: {}", why.info()))
}

fn wrong(place: Place, message: &str) -> ConfigError {
    ConfigError {
        place,
        path: String::new(),
        message: message.to_owned(),
    }
}
