//! `Range` and `If-Range` (RFC 9110 §14): a client that has some of the bytes asks for the rest.

use std::ops::Range;

use contract::problem::{Kind, Problem};
use http::{HeaderValue, Method, header};

use super::request::Request;

/// The bytes of a file that an answer carries: all of them, or one range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub bytes: Range<u64>,
    size: u64,
    whole: bool,
}

impl Part {
    fn whole(size: u64) -> Self {
        Self {
            bytes: 0..size,
            size,
            whole: true,
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    pub(super) fn length(&self) -> u64 {
        self.bytes.end - self.bytes.start
    }

    pub(super) fn content_range(&self) -> Option<HeaderValue> {
        let Range { start, end } = self.bytes;
        let text = format!("bytes {start}-{}/{}", end.saturating_sub(1), self.size);
        HeaderValue::try_from(text).ok().filter(|_| !self.whole)
    }
}

impl<W> Request<W> {
    /// The part that the client asks for, of a file with `size` bytes and a strong entity tag. The whole file if
    /// the client names no range or several, or has another version. 416 if the range begins after the end.
    pub fn part(&self, size: u64, etag: &str) -> Result<Part, Problem> {
        let same = |known: &str| known == format!("\"{etag}\"");
        let usable = self.method() == Method::GET
            && self.header(&header::IF_RANGE).is_none_or(same)
            && self.head.headers.get_all(header::IF_RANGE).iter().count() <= 1;
        match self.header(&header::RANGE) {
            Some(value) if usable => part(value, size),
            _ => Ok(Part::whole(size)),
        }
    }
}

fn part(value: &str, size: u64) -> Result<Part, Problem> {
    let Some((first, last)) = single(value) else {
        return Ok(Part::whole(size));
    };
    let bytes = match (first, last) {
        (Some(first), Some(last)) if last < first => return Ok(Part::whole(size)),
        (Some(first), last) => first..last.map_or(size, |last| last.saturating_add(1).min(size)),
        (None, Some(suffix)) => size.saturating_sub(suffix)..size,
        (None, None) => return Ok(Part::whole(size)),
    };
    if bytes.is_empty() {
        let range = HeaderValue::try_from(format!("bytes */{size}"));
        let problem = Problem::new(
            Kind::RangeNotSatisfiable,
            format!("There are {size} bytes; the range begins behind them."),
        );
        return Err(match range {
            Ok(range) => problem.with_header(header::CONTENT_RANGE, range),
            Err(_) => problem,
        });
    }
    Ok(Part {
        bytes,
        size,
        whole: false,
    })
}

/// The first and last byte of a single range. `None` for every other value, which a server may ignore.
fn single(value: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (unit, range) = value.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    let number = |text: &str| match text {
        "" => Some(None),
        _ if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok().map(Some),
        _ => None,
    };
    Some((number(first)?, number(last)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_cut_to_what_is_there() {
        let cut = |value| part(value, 10).unwrap();
        for (value, bytes) in [
            ("bytes=0-0", 0..1),
            ("bytes=2-5", 2..6),
            ("Bytes = 2-", 2..10),
            ("bytes=8-99", 8..10),
            ("bytes=-3", 7..10),
            ("bytes=-99", 0..10),
        ] {
            let part = cut(value);
            assert_eq!((&part.bytes, part.whole), (&bytes, false), "{value}");
        }
        assert_eq!(cut("bytes=2-5").content_range().unwrap(), "bytes 2-5/10");
    }

    #[test]
    fn what_is_no_single_range_of_bytes_gives_the_whole() {
        for value in [
            "bytes=0-1,3-4",
            "lines=0-1",
            "bytes=5-2",
            "bytes=-",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes",
            "bytes=99999999999999999999-",
        ] {
            assert_eq!(part(value, 10).unwrap(), Part::whole(10), "{value}");
        }
    }

    #[test]
    fn a_range_behind_the_end_is_refused_with_the_size() {
        for (value, size) in [("bytes=10-", 10), ("bytes=-0", 10), ("bytes=0-", 0)] {
            let problem = part(value, size).unwrap_err();
            let range = format!("bytes */{size}");
            let headers: Vec<_> = problem.headers().collect();
            assert_eq!(headers[0].1, range.as_str(), "{value}");
            assert_eq!(problem.status(), 416);
        }
    }
}
