//! Accepts a path if it has only one spelling.

use super::class::{PATH_CHARACTER, QUERY_CHARACTER};
use super::malformed::Malformed;

/// A path that has only one spelling, and its query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CanonicalPath<'a> {
    target: &'a str,
    path_end: usize,
}

impl<'a> CanonicalPath<'a> {
    /// The path without the query. Routes are found by it.
    pub fn path(&self) -> &'a str {
        &self.target[..self.path_end]
    }

    /// The text after the `?`. The gateway never interprets it.
    pub fn query(&self) -> Option<&'a str> {
        self.target.get(self.path_end + 1..)
    }

    /// Path and query, as they were sent and are forwarded.
    pub fn target(&self) -> &'a str {
        self.target
    }
}

/// Accepts a target whose path has only one spelling.
///
/// Refuses what every strict server refuses, and also characters that are percent-encoded without need:
/// `/logi%6E` would be `/login` to a worker but another path to the rules.
pub fn path(target: &str) -> Result<CanonicalPath<'_>, Malformed> {
    let bytes = target.as_bytes();
    if bytes.first() != Some(&b'/') {
        return Err(Malformed::NotOriginForm);
    }
    let mut segment = 1;
    let mut at = 1;
    let path_end = loop {
        let Some(&byte) = bytes.get(at) else {
            break at;
        };
        match byte {
            _ if PATH_CHARACTER[usize::from(byte)] => at += 1,
            b'/' => {
                check_segment(&bytes[segment..at], false)?;
                at += 1;
                segment = at;
            }
            b'%' => {
                check_escape(bytes.get(at + 1..at + 3).unwrap_or_default())?;
                at += 3;
            }
            b'?' => break at,
            b';' => return Err(Malformed::Semicolon),
            b'\\' => return Err(Malformed::Backslash),
            b'#' => return Err(Malformed::Fragment),
            _ => return Err(Malformed::PathByte),
        }
    };
    check_segment(&bytes[segment..path_end], true)?;
    check_query(bytes.get(path_end + 1..).unwrap_or_default())?;
    Ok(CanonicalPath { target, path_end })
}

fn check_segment(segment: &[u8], last: bool) -> Result<(), Malformed> {
    match segment {
        [] if !last => Err(Malformed::EmptySegment),
        b"." | b".." => Err(Malformed::DotSegment),
        _ => Ok(()),
    }
}

fn check_escape(digits: &[u8]) -> Result<(), Malformed> {
    let &[high, low] = digits else {
        return Err(Malformed::PercentEscape);
    };
    let (Some(high), Some(low)) = (hex_digit(high), hex_digit(low)) else {
        return Err(Malformed::PercentEscape);
    };
    match high << 4 | low {
        b'/' | b'\\' | b'.' | 0..=0x1f | 0x7f => Err(Malformed::EncodedDelimiter),
        b'-' | b'_' | b'~' => Err(Malformed::EncodedPlainCharacter),
        byte if byte.is_ascii_alphanumeric() => Err(Malformed::EncodedPlainCharacter),
        _ => Ok(()),
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

fn check_query(query: &[u8]) -> Result<(), Malformed> {
    match query
        .iter()
        .find(|&&byte| !QUERY_CHARACTER[usize::from(byte)])
    {
        None => Ok(()),
        Some(b'#') => Err(Malformed::Fragment),
        Some(_) => Err(Malformed::QueryByte),
    }
}
