//! Reads a request's head, if it can be read in only one way.

use super::class::{HOST, QUERY_CHARACTER, TOKEN, VALUE, run_of};
use super::identity::is_identity;
use super::malformed::Malformed;

/// The parts of a head that can be read in only one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawHead<'a> {
    pub method: &'a str,
    /// As it was sent: a path with its query, or an authority for CONNECT.
    pub target: &'a str,
    /// The number of header lines.
    pub headers: usize,
    /// The number of bytes, including the final empty line. The body follows.
    pub length: usize,
}

/// Reads the HTTP/1.x request head at the start of `bytes`.
///
/// [`Malformed::Incomplete`] means that more bytes are needed. Any other result is final, whatever
/// bytes follow.
pub fn head(bytes: &[u8]) -> Result<RawHead<'_>, Malformed> {
    let (method, target, http_10, mut rest) = request_line(bytes)?;
    let mut seen = SeenHeaders::default();
    let body = loop {
        match rest {
            [b'\r', b'\n', body @ ..] => break body,
            [] | [b'\r'] => return Err(Malformed::Incomplete),
            _ => {}
        }
        let (line, after) = header_line(rest)?;
        seen.header(&line)?;
        rest = after;
    };
    seen.check(http_10)?;
    if method != "CONNECT" && !target.starts_with('/') {
        return Err(Malformed::NotOriginForm);
    }
    Ok(RawHead {
        method,
        target,
        headers: seen.headers,
        length: bytes.len() - body.len(),
    })
}

/// The method, the target, whether the version is 1.0, and the bytes after the line.
fn request_line(head: &[u8]) -> Result<(&str, &str, bool, &[u8]), Malformed> {
    let (method, rest) = head.split_at(run_of(&TOKEN, head));
    let rest = match rest {
        [b' ', rest @ ..] if !method.is_empty() => rest,
        _ => return Err(broken_at(rest, Malformed::RequestLine)),
    };
    let (target, rest) = rest.split_at(run_of(&QUERY_CHARACTER, rest));
    match rest.first() {
        None => return Err(Malformed::Incomplete),
        Some(b' ' | b'\r' | b'\n') if target.is_empty() => {
            return Err(broken_at(rest, Malformed::RequestLine));
        }
        Some(b' ' | b'\r' | b'\n') => {}
        Some(b'#') => return Err(Malformed::Fragment),
        Some(_) => return Err(Malformed::TargetByte),
    }
    let http_10 = rest.starts_with(b" HTTP/1.0");
    let version: &[u8] = match http_10 {
        true => b" HTTP/1.0\r\n",
        false => b" HTTP/1.1\r\n",
    };
    if let Some(at) = version.iter().zip(rest).position(|(a, b)| a != b) {
        return Err(broken_at(&rest[at..], Malformed::RequestLine));
    }
    let rest = rest.get(version.len()..).ok_or(Malformed::Incomplete)?;
    Ok((ascii(method)?, ascii(target)?, http_10, rest))
}

/// Never fails, because the callers pass only ASCII.
fn ascii(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed::TargetByte)
}

struct Line<'a> {
    name: &'a [u8],
    /// Without surrounding white space.
    value: &'a [u8],
}

fn header_line(rest: &[u8]) -> Result<(Line<'_>, &[u8]), Malformed> {
    let (name, after) = rest.split_at(run_of(&TOKEN, rest));
    let value = match after {
        [b':', value @ ..] if !name.is_empty() => value,
        [b' ' | b'\t', ..] if name.is_empty() => return Err(Malformed::FoldedHeader),
        [b' ' | b'\t', ..] => return Err(Malformed::SpaceBeforeColon),
        _ => return Err(broken_at(after, Malformed::HeaderName)),
    };
    let (value, after) = value.split_at(run_of(&VALUE, value));
    match after {
        [b'\r', b'\n', after @ ..] => {
            let value = value.trim_ascii();
            Ok((Line { name, value }, after))
        }
        _ => Err(broken_at(after, Malformed::HeaderValue)),
    }
}

/// The error at the first byte outside a class: a broken line, or `otherwise`.
fn broken_at(rest: &[u8], otherwise: Malformed) -> Malformed {
    match rest {
        [] | [b'\r'] => Malformed::Incomplete,
        [b'\r', b'\n', ..] => otherwise,
        [b'\r' | b'\n', ..] => Malformed::BareLineBreak,
        _ => otherwise,
    }
}

/// The headers that may be sent only once, or not together.
#[derive(Default)]
struct SeenHeaders {
    headers: usize,
    host: bool,
    authorization: bool,
    content_length: bool,
    transfer_encoding: bool,
}

impl SeenHeaders {
    fn header(&mut self, line: &Line<'_>) -> Result<(), Malformed> {
        self.headers += 1;
        let is = |name: &[u8]| line.name.eq_ignore_ascii_case(name);
        // Compares lengths first, because most headers are none of these.
        match line.name.len() {
            4 if is(b"host") => {
                once(&mut self.host, Malformed::DuplicateHost)?;
                match run_of(&HOST, line.value) == line.value.len() {
                    true => Ok(()),
                    false => Err(Malformed::Host),
                }
            }
            13 if is(b"authorization") => {
                once(&mut self.authorization, Malformed::DuplicateAuthorization)
            }
            14 if is(b"content-length") => {
                once(&mut self.content_length, Malformed::DuplicateContentLength)?;
                check_content_length(line.value)
            }
            17 if is(b"transfer-encoding") => {
                once(&mut self.transfer_encoding, Malformed::TransferEncoding)?;
                match line.value.eq_ignore_ascii_case(b"chunked") {
                    true => Ok(()),
                    false => Err(Malformed::TransferEncoding),
                }
            }
            _ if line.name.contains(&b'_') && is_identity(line.name) => {
                Err(Malformed::UnderscoreInIdentityHeader)
            }
            _ => Ok(()),
        }
    }

    fn check(&self, http_10: bool) -> Result<(), Malformed> {
        if self.transfer_encoding && http_10 {
            return Err(Malformed::TransferEncodingInHttp10);
        }
        if self.transfer_encoding && self.content_length {
            return Err(Malformed::ContentLengthWithTransferEncoding);
        }
        if !self.host && !http_10 {
            return Err(Malformed::MissingHost);
        }
        Ok(())
    }
}

fn once(seen: &mut bool, duplicate: Malformed) -> Result<(), Malformed> {
    match std::mem::replace(seen, true) {
        true => Err(duplicate),
        false => Ok(()),
    }
}

fn check_content_length(value: &[u8]) -> Result<(), Malformed> {
    // 19 digits always fit into 64 bits.
    match (1..=19).contains(&value.len()) && value.iter().all(u8::is_ascii_digit) {
        true => Ok(()),
        false => Err(Malformed::ContentLength),
    }
}
