//! YAML text → a tree whose nodes know their place.
//!
//! The tree is built from the parser's events. A ready-made loader stops at the first error, or
//! keeps one of two equal keys without a word. Single values stay text; the reader of each setting
//! decides what it means. Anchors, aliases and tags are errors: a configuration means what it
//! shows.

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput};

use super::error::{ConfigError, Place};

/// Deeper than any configuration needs, and shallow enough for the stack.
const MAX_DEPTH: usize = 32;

/// A value and the place where it starts.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Null,
    Text(String),
    List(Vec<Node>),
    /// In the order of the file, each key once.
    Map(Vec<MapEntry>),
}

#[derive(Debug)]
pub(super) struct MapEntry {
    pub(super) key: String,
    /// Of the key.
    pub(super) place: Place,
    pub(super) value: Node,
}

impl Content {
    /// What error messages call it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Text(_) => "a single value",
            Self::List(_) => "a list",
            Self::Map(_) => "a section",
        }
    }
}

/// Reads the one document in `text`, and returns every error. After a syntax error there is no
/// tree. After other errors there is one, so that the settings in it are checked too.
pub(super) fn parse(text: &str) -> (Option<Node>, Vec<ConfigError>) {
    let mut builder = TreeBuilder {
        parser: Parser::new_from_str(text),
        errors: Vec::new(),
    };
    let root = builder.document();
    let root = root.map_err(|error| builder.errors.push(error)).ok();
    (root, builder.errors)
}

struct TreeBuilder<'a> {
    parser: Parser<'a, StrInput<'a>>,
    errors: Vec<ConfigError>,
}

/// The error of a step ends the reading.
type Step<T> = Result<T, ConfigError>;

impl<'a> TreeBuilder<'a> {
    fn next(&mut self) -> Step<(Event<'a>, Span)> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(why)) => {
                let message = format!("not YAML: {}", why.info());
                Err(error(place(why.marker()), message))
            }
            None => Err(error(Place::START, "the file ends too early")),
        }
    }

    fn document(&mut self) -> Step<Node> {
        let root = loop {
            match self.next()? {
                (Event::StreamStart | Event::DocumentStart(_), _) => {}
                (Event::StreamEnd, _) => return Err(error(Place::START, "the file is empty")),
                (first, span) => break self.node(first, span, 0)?,
            }
        };
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(root),
                (Event::DocumentEnd, _) => {}
                (_, span) => return Err(error(place(&span.start), "only one document is allowed")),
            }
        }
    }

    /// The node that starts with `event`.
    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Step<Node> {
        let place = place(&span.start);
        if depth > MAX_DEPTH {
            return Err(error(place, "nested too deeply"));
        }
        if is_shorthand(&event) {
            self.errors.push(error(
                place,
                "anchors (&), aliases (*) and tags (!) are not allowed; write the value out",
            ));
        }
        let content = match event {
            Event::Scalar(text, style, ..) => match (style, &*text) {
                (ScalarStyle::Plain, "" | "~" | "null" | "Null" | "NULL") => Content::Null,
                _ => Content::Text(text.into_owned()),
            },
            Event::SequenceStart(..) => Content::List(self.items(depth)?),
            Event::MappingStart(..) => Content::Map(self.entries(depth)?),
            Event::Alias(_) => Content::Null,
            _ => return Err(error(place, "a value is missing here")),
        };
        Ok(Node { place, content })
    }

    fn items(&mut self, depth: usize) -> Step<Vec<Node>> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn entries(&mut self, depth: usize) -> Step<Vec<MapEntry>> {
        let mut entries: Vec<MapEntry> = Vec::new();
        loop {
            let (key, place) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(entries),
                (Event::Scalar(key, ..), span) => (key.into_owned(), place(&span.start)),
                (_, span) => return Err(error(place(&span.start), "a key must be a plain text")),
            };
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            match entries.iter().find(|first| first.key == key) {
                None => entries.push(MapEntry { key, place, value }),
                Some(first) => {
                    let line = first.place.line;
                    let message = format!("the key `{key}` stands already in line {line}");
                    self.errors.push(error(place, message));
                }
            }
        }
    }
}

fn is_shorthand(event: &Event<'_>) -> bool {
    match event {
        Event::Scalar(_, _, anchor, tag)
        | Event::SequenceStart(anchor, tag)
        | Event::MappingStart(anchor, tag) => *anchor != 0 || tag.is_some(),
        Event::Alias(_) => true,
        _ => false,
    }
}

/// The parser counts lines from one and columns from zero.
fn place(marker: &Marker) -> Place {
    Place {
        line: marker.line().max(1),
        column: marker.col() + 1,
    }
}

/// An error of the file, which no path leads to.
fn error(place: Place, message: impl Into<String>) -> ConfigError {
    ConfigError::new(place, String::new(), message)
}
