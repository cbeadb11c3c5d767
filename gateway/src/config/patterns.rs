//! Matches of one service: `METHOD /path` → something.
//!
//! The reader uses it to refuse two matches for the same requests; the route table, built after
//! that, uses it to find the match of a request. It is a plain sorted list: a service has a handful
//! of matches, and a radix tree would not allow `{name}` and `{*rest}` side by side.

use http::Method;

use super::model::Match;

/// The most specific match comes first: in each segment, a text comes before `{name}`, and `{name}`
/// before `{*rest}`.
pub(crate) struct Patterns<T>(Vec<(Pattern, T)>);

/// Another match accepts exactly the same requests.
#[derive(Debug)]
pub(crate) struct Collision;

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Pattern {
    segments: Vec<Segment>,
    method: String,
}

/// Invariant: the order of the variants is the order of precedence.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Text(String),
    One,
    /// One or more segments; always the last.
    Rest,
}

impl<T> Patterns<T> {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a match, unless another accepts the same requests.
    pub(crate) fn insert(&mut self, matches: &Match, value: T) -> Result<(), Collision> {
        let pattern = Pattern::new(matches);
        match self.0.binary_search_by(|(known, _)| known.cmp(&pattern)) {
            Ok(_) => Err(Collision),
            Err(place) => {
                self.0.insert(place, (pattern, value));
                Ok(())
            }
        }
    }

    /// The most specific match for a path below the service's prefix. A HEAD request without a
    /// match of its own takes that of GET. Allocates nothing.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Option<&T> {
        let found = self.find_exactly(method, path);
        match *method {
            Method::HEAD => found.or_else(|| self.find_exactly(&Method::GET, path)),
            _ => found,
        }
    }

    fn find_exactly(&self, method: &Method, path: &str) -> Option<&T> {
        let accepts = |(pattern, _): &&(Pattern, T)| pattern.accepts(method, path);
        self.0.iter().find(accepts).map(|(_, value)| value)
    }
}

impl Pattern {
    fn new(matches: &Match) -> Self {
        let segments = matches.pattern.split('/').skip(1);
        Self {
            segments: segments.map(Segment::new).collect(),
            method: matches.method.as_str().to_owned(),
        }
    }

    fn accepts(&self, method: &Method, path: &str) -> bool {
        if self.method != method.as_str() {
            return false;
        }
        // The part before the first slash is empty.
        let mut parts = path.split('/').skip(1);
        for segment in &self.segments {
            match (segment, parts.next()) {
                (Segment::Text(text), Some(part)) if text == part => {}
                (Segment::One, Some(part)) if !part.is_empty() => {}
                (Segment::Rest, Some(part)) => return !part.is_empty(),
                _ => return false,
            }
        }
        parts.next().is_none()
    }
}

impl Segment {
    fn new(text: &str) -> Self {
        match text.as_bytes() {
            [b'{', b'*', ..] => Self::Rest,
            [b'{', ..] => Self::One,
            _ => Self::Text(text.to_owned()),
        }
    }
}
