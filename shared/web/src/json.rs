//! Strict JSON from outside: bounded depth, no duplicate members, and all errors together.
//!
//! A handler reads a request's [`Object`] member by member. [`Object::finish`] then returns the value, or 422
//! with every error, unknown members included.

use std::fmt;

use contract::problem::{FieldError, Kind, Problem};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How deep objects and arrays may nest.
pub const MAX_DEPTH: usize = 32;
/// How many characters of an unknown member's name an answer repeats.
pub(super) const MAX_NAME: usize = 100;
/// The most errors in one answer; more are left out.
pub(super) const MAX_ERRORS: usize = 64;

/// Parses one JSON document. Malformed text, duplicate members and a depth over [`MAX_DEPTH`] are 400.
pub fn parse(bytes: &[u8]) -> Result<Value, Problem> {
    let mut from = serde_json::Deserializer::from_slice(bytes);
    Strict { depth: MAX_DEPTH }
        .deserialize(&mut from)
        .and_then(|value| from.end().map(|()| value))
        .map_err(|why| {
            Problem::new(
                Kind::MalformedRequest,
                format!("The body is not acceptable JSON: {why}."),
            )
        })
}

#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Self { depth }),
            None => Err(E::custom(format!("nested deeper than {MAX_DEPTH} levels"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = from.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut map = Map::new();
        while let Some(name) = from.next_key::<String>()? {
            if map.contains_key(&name) {
                return Err(A::Error::custom(format!("member `{name}` is there twice")));
            }
            let value = from.next_value_seed(inner)?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

/// The change that a member of a merge patch (RFC 7396) asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Patch<T> {
    /// The member is absent: keep the value.
    Keep,
    /// `null`: remove the value.
    Clear,
    Set(T),
}

/// A JSON object that is read member by member. It collects all errors.
#[derive(Debug)]
pub struct Object {
    members: Map<String, Value>,
    errors: Vec<FieldError>,
}

impl Object {
    /// 422 if the document is not an object.
    pub fn new(value: Value) -> Result<Self, Problem> {
        match value {
            Value::Object(members) => Ok(Self {
                members,
                errors: Vec::new(),
            }),
            _ => Err(Problem::validation(vec![FieldError {
                pointer: String::new(),
                detail: "must be a JSON object".to_owned(),
            }])),
        }
    }

    /// A member that must be there. `None` means that an error was recorded.
    pub fn required<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(Value) -> Result<T, String>,
    ) -> Option<T> {
        match self.members.remove(name) {
            Some(value) => self.read(name, value, read),
            None => {
                self.refuse(name, "is required");
                None
            }
        }
    }

    /// A member that may be left out or `null`.
    pub fn optional<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(Value) -> Result<T, String>,
    ) -> Option<T> {
        match self.members.remove(name) {
            None | Some(Value::Null) => None,
            Some(value) => self.read(name, value, read),
        }
    }

    /// A member of a merge patch.
    pub fn patch<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(Value) -> Result<T, String>,
    ) -> Patch<T> {
        match self.members.remove(name) {
            None => Patch::Keep,
            Some(Value::Null) => Patch::Clear,
            Some(value) => self.read(name, value, read).map_or(Patch::Keep, Patch::Set),
        }
    }

    /// Records an error of a member, or of several members together.
    pub fn refuse(&mut self, name: &str, detail: impl Into<String>) {
        // An answer must not outgrow its request.
        if self.errors.len() >= MAX_ERRORS {
            return;
        }
        self.errors.push(FieldError {
            pointer: pointer(&name.chars().take(MAX_NAME).collect::<String>()),
            detail: detail.into(),
        });
    }

    /// Ends the reading: returns the value that `build` makes, or 422 with every error. `build` sees `None` only
    /// for members whose error was recorded.
    pub fn finish<T>(mut self, build: impl FnOnce() -> Option<T>) -> Result<T, Problem> {
        let unknown: Vec<_> = self.members.keys().cloned().collect();
        for name in unknown {
            self.refuse(&name, "is not a known member");
        }
        if !self.errors.is_empty() {
            return Err(Problem::validation(self.errors));
        }
        build().ok_or_else(Problem::internal)
    }

    fn read<T>(
        &mut self,
        name: &str,
        value: Value,
        read: impl FnOnce(Value) -> Result<T, String>,
    ) -> Option<T> {
        read(value).map_err(|why| self.refuse(name, why)).ok()
    }
}

/// A JSON pointer (RFC 6901) to a top-level member.
fn pointer(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// Any text.
pub fn text(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err("must be a string".to_owned()),
    }
}

/// Text of `min` to `max` characters (Unicode scalar values), without control characters other
/// than line breaks and tabs.
pub fn text_of(min: usize, max: usize) -> impl Fn(Value) -> Result<String, String> {
    move |value| {
        let text = text(value)?;
        let count = text.chars().count();
        if count < min || count > max {
            return Err(format!("must have {min} to {max} characters, has {count}"));
        }
        let control = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
        if text.chars().any(control) {
            return Err("must not contain control characters".to_owned());
        }
        Ok(text)
    }
}

pub fn boolean(value: Value) -> Result<bool, String> {
    value
        .as_bool()
        .ok_or_else(|| "must be true or false".to_owned())
}

/// An RFC 3339 time with its offset, truncated to milliseconds.
pub fn time(value: Value) -> Result<jiff::Timestamp, String> {
    text(value)?
        .parse()
        .map(contract::time::whole_millis)
        .map_err(|_| "must be an RFC 3339 time such as 2026-11-23T10:15:00Z".to_owned())
}

/// A list of at most `max` items.
pub fn list<T>(
    max: usize,
    item: impl Fn(Value) -> Result<T, String>,
) -> impl Fn(Value) -> Result<Vec<T>, String> {
    move |value| {
        let Value::Array(items) = value else {
            return Err("must be a list".to_owned());
        };
        if items.len() > max {
            return Err(format!(
                "must have at most {max} items, has {}",
                items.len()
            ));
        }
        let read = |(n, value)| item(value).map_err(|why| format!("item {n} {why}"));
        items.into_iter().enumerate().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicate_members_depth_and_trailing_text_are_malformed() {
        assert!(parse(br#"{"a":1,"a":2}"#).is_err());
        assert!(parse(br#"{"a":{"b":1,"b":2}}"#).is_err());
        assert!(parse(b"{} x").is_err());
        assert!(parse(b"").is_err());
        let nested = |n| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(parse(nested(MAX_DEPTH + 1).as_bytes()).is_err());
        assert!(parse(nested(100_000).as_bytes()).is_err());
    }

    #[test]
    fn every_complaint_is_made_at_once_with_its_pointer() {
        let value = parse(br#"{"title":"","done":1,"x/y":0}"#).unwrap();
        let mut object = Object::new(value).unwrap();
        let title = object.required("title", text_of(1, 10));
        let done = object.optional("done", boolean);
        let owner = object.required("owner", text);
        let problem = object.finish(|| Some((title?, done, owner?))).unwrap_err();
        let mut pointers: Vec<_> = problem
            .errors()
            .iter()
            .map(|e| e.pointer.as_str())
            .collect();
        pointers.sort_unstable();
        assert_eq!(pointers, ["/done", "/owner", "/title", "/x~1y"]);
    }

    #[test]
    fn a_merge_patch_tells_absent_from_null() {
        let value = parse(br#"{"a":null,"b":"x"}"#).unwrap();
        let mut object = Object::new(value).unwrap();
        assert_eq!(object.patch("a", text), Patch::Clear);
        assert_eq!(object.patch("b", text), Patch::Set("x".to_owned()));
        assert_eq!(object.patch("c", text), Patch::Keep);
        assert!(object.finish(|| Some(())).is_ok());
    }
}
