//! One spelling of a request, or a refusal.
//!
//! [`raw_head`] judges the bytes of an HTTP/1.x head as they came in, because a tolerant parser
//! hides the ambiguities that smuggling lives on; [`path`] judges the target. Both borrow, allocate
//! nothing and change nothing: what is accepted is forwarded as it is, so the gateway and the
//! worker cannot read it differently. They must never repair a request.
//!
//! First step of admission; [`crate::route::Table`] takes the [`CanonicalPath`] as evidence.

use http::Method;

/// Why a request is refused with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.detail())]
pub enum Malformed {
    RequestLine,
    TargetByte,
    Incomplete,
    BareLineBreak,
    FoldedHeader,
    HeaderName,
    SpaceBeforeColon,
    HeaderValue,
    ContentLength,
    DuplicateContentLength,
    TransferEncoding,
    TransferEncodingInHttp10,
    ContentLengthWithTransferEncoding,
    UnderscoreInIdentityHeader,
    DuplicateAuthorization,
    DuplicateHost,
    MissingHost,
    NotOriginForm,
    EmptySegment,
    DotSegment,
    Semicolon,
    Backslash,
    PathByte,
    QueryByte,
    Fragment,
    PercentEscape,
    EncodedDelimiter,
    EncodedPlainCharacter,
}

impl Malformed {
    /// What is wrong and what to change, for the client to read.
    pub fn detail(self) -> &'static str {
        match self {
            Self::RequestLine => {
                "The request line must be METHOD SP target SP HTTP/1.0 or HTTP/1.1, with single spaces."
            }
            Self::TargetByte => {
                "The request target holds a space, a control or a byte beyond ASCII; percent-encode it."
            }
            Self::Incomplete => {
                "The request head must end with one empty line and nothing after it."
            }
            Self::BareLineBreak => {
                "Lines must end with CR LF; a CR or LF on its own is not allowed."
            }
            Self::FoldedHeader => {
                "A header must stand on one line; continuation lines are not allowed."
            }
            Self::HeaderName => "A header line must be a token, a colon and a value.",
            Self::SpaceBeforeColon => "No space is allowed between a header's name and its colon.",
            Self::HeaderValue => "A header value holds a control character; remove it.",
            Self::ContentLength => "Content-Length must be one decimal number.",
            Self::DuplicateContentLength => "Content-Length must be sent once.",
            Self::TransferEncoding => {
                "Transfer-Encoding must be sent once, as `chunked` and nothing else."
            }
            Self::TransferEncodingInHttp10 => {
                "Transfer-Encoding is not allowed in HTTP/1.0; use HTTP/1.1."
            }
            Self::ContentLengthWithTransferEncoding => {
                "Send either Content-Length or Transfer-Encoding, not both."
            }
            Self::UnderscoreInIdentityHeader => {
                "Headers that carry the caller's identity must not be sent, in no spelling with `_`."
            }
            Self::DuplicateAuthorization => "Authorization must be sent at most once.",
            Self::DuplicateHost => "Host must be sent once.",
            Self::MissingHost => "An HTTP/1.1 request must have a Host header.",
            Self::NotOriginForm => "The request target must be a path that starts with `/`.",
            Self::EmptySegment => "The path holds `//`; write a single slash.",
            Self::DotSegment => "The path holds a `.` or `..` segment; write the path without it.",
            Self::Semicolon => "The path holds `;`; path parameters are not allowed.",
            Self::Backslash => "The path holds a backslash; write `/`.",
            Self::PathByte => "The path holds a character that must be percent-encoded.",
            Self::QueryByte => "The query holds a character that must be percent-encoded.",
            Self::Fragment => "The target holds `#`; a fragment is not sent to a server.",
            Self::PercentEscape => {
                "The path holds a `%` that is not followed by two hexadecimal digits."
            }
            Self::EncodedDelimiter => {
                "The path holds an encoded `/`, `\\`, `.` or control character; these are not allowed."
            }
            Self::EncodedPlainCharacter => {
                "The path percent-encodes a letter, digit, `-`, `_` or `~`; write it as it is."
            }
        }
    }
}

/// Whether the method is served at all; CONNECT and TRACE are answered with 405.
pub fn method_is_served(method: &Method) -> bool {
    *method != Method::CONNECT && *method != Method::TRACE
}

// === paths ===

/// A path with one spelling, its query apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CanonicalPath<'a> {
    target: &'a str,
    path_end: usize,
}

impl<'a> CanonicalPath<'a> {
    /// The path alone; routes are decided on it.
    pub fn path(&self) -> &'a str {
        &self.target[..self.path_end]
    }

    /// What stands after the `?`, never looked at.
    pub fn query(&self) -> Option<&'a str> {
        self.target.get(self.path_end + 1..)
    }

    /// Path and query as they were sent, and as they are forwarded.
    pub fn target(&self) -> &'a str {
        self.target
    }
}

/// Accepts a target whose path has one spelling.
///
/// Besides what every strict server refuses, percent-encoded characters that need no encoding are
/// refused: `/logi%6E` would be `/login` to a worker and another path to the rules.
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

// === heads ===

/// Accepts the bytes of an HTTP/1.x request head, request line and final empty line included, and
/// returns the request target as it was sent. One pass.
pub fn raw_head(head: &[u8]) -> Result<&str, Malformed> {
    let (target, http_10, mut rest) = request_line(head)?;
    let mut seen = Seen::default();
    loop {
        match rest {
            b"\r\n" => break,
            [] | [b'\r', b'\n', ..] => return Err(Malformed::Incomplete),
            _ => {}
        }
        let (line, after) = header_line(rest)?;
        seen.header(&line)?;
        rest = after;
    }
    seen.check(http_10)?;
    std::str::from_utf8(target).map_err(|_| Malformed::TargetByte)
}

/// The target, whether the version is 1.0, and what follows the line.
fn request_line(head: &[u8]) -> Result<(&[u8], bool, &[u8]), Malformed> {
    let method = run_of(&TOKEN, head);
    let (b" ", rest) = split(&head[method..], 1)? else {
        return Err(broken_at(&head[method..], Malformed::RequestLine));
    };
    let length = rest.iter().position(|byte| !byte.is_ascii_graphic());
    let (target, rest) = split(rest, length.ok_or(Malformed::Incomplete)?)?;
    match rest[0] {
        b' ' | b'\r' | b'\n' => {}
        _ => return Err(Malformed::TargetByte),
    }
    if method == 0 || target.is_empty() {
        return Err(Malformed::RequestLine);
    }
    match split(rest, b" HTTP/1.1\r\n".len()) {
        Ok((b" HTTP/1.1\r\n", rest)) => Ok((target, false, rest)),
        Ok((b" HTTP/1.0\r\n", rest)) => Ok((target, true, rest)),
        _ => {
            let line = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            Err(broken_at(
                &rest[line.unwrap_or(0)..],
                Malformed::RequestLine,
            ))
        }
    }
}

struct Line<'a> {
    name: &'a [u8],
    /// Without the white space around it.
    value: &'a [u8],
}

fn header_line(rest: &[u8]) -> Result<(Line<'_>, &[u8]), Malformed> {
    let length = run_of(&TOKEN, rest);
    let (name, after) = split(rest, length)?;
    let value = match after.first() {
        Some(b':') if length > 0 => &after[1..],
        Some(b' ' | b'\t') if length == 0 => return Err(Malformed::FoldedHeader),
        Some(b' ' | b'\t') => return Err(Malformed::SpaceBeforeColon),
        _ => return Err(broken_at(after, Malformed::HeaderName)),
    };
    let (value, after) = split(value, run_of(&VALUE, value))?;
    match after {
        [b'\r', b'\n', after @ ..] => {
            let value = value.trim_ascii();
            Ok((Line { name, value }, after))
        }
        _ => Err(broken_at(after, Malformed::HeaderValue)),
    }
}

/// What is wrong where a run ended: a broken line, or `otherwise`.
fn broken_at(rest: &[u8], otherwise: Malformed) -> Malformed {
    match rest {
        [] => Malformed::Incomplete,
        [b'\r', b'\n', ..] => otherwise,
        [b'\r' | b'\n', ..] => Malformed::BareLineBreak,
        _ => otherwise,
    }
}

fn run_of(class: &[bool; 256], bytes: &[u8]) -> usize {
    let end = bytes.iter().position(|&byte| !class[usize::from(byte)]);
    end.unwrap_or(bytes.len())
}

fn split(bytes: &[u8], at: usize) -> Result<(&[u8], &[u8]), Malformed> {
    bytes.split_at_checked(at).ok_or(Malformed::Incomplete)
}

/// The headers whose number or company matters.
#[derive(Default)]
struct Seen {
    host: bool,
    authorization: bool,
    content_length: bool,
    transfer_encoding: bool,
}

impl Seen {
    fn header(&mut self, line: &Line<'_>) -> Result<(), Malformed> {
        let is = |name: &[u8]| line.name.eq_ignore_ascii_case(name);
        // Lengths first: most headers are none of these.
        match line.name.len() {
            4 if is(b"host") => once(&mut self.host, Malformed::DuplicateHost),
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

// === the identity family ===

/// The headers that only the gateway may write, towards the workers.
const IDENTITY: [&[u8]; 5] = [
    b"x-user-id",
    b"x-session-id",
    b"x-token-expires",
    b"x-client-address",
    b"x-request-id",
];
const IDENTITY_PREFIXES: [&[u8]; 3] = [b"x-gateway-", b"x-claim-", b"x-forwarded-"];

/// Whether a header belongs to the identity family, in any case and with `_` for `-`.
pub fn in_identity_family(name: &str) -> bool {
    is_identity(name.as_bytes())
}

fn is_identity(name: &[u8]) -> bool {
    let same = |known: &[u8]| name.len() == known.len() && begins(name, known);
    IDENTITY.iter().any(|known| same(known)) || IDENTITY_PREFIXES.iter().any(|p| begins(name, p))
}

fn begins(name: &[u8], known: &[u8]) -> bool {
    let folded = |byte: u8| match byte {
        b'_' => b'-',
        byte => byte.to_ascii_lowercase(),
    };
    name.len() >= known.len() && name.iter().zip(known).all(|(&a, &b)| folded(a) == b)
}

// === character classes ===

const fn class(extra: &[u8], alphanumeric: bool) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte: u8 = 0;
    while alphanumeric && byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut index = 0;
    while index < extra.len() {
        table[extra[index] as usize] = true;
        index += 1;
    }
    table
}

/// RFC 9110 `token`.
const TOKEN: [bool; 256] = class(b"!#$%&'*+-.^_`|~", true);
/// RFC 3986 `pchar` without escapes and without `;`.
const PATH_CHARACTER: [bool; 256] = class(b"-._~!$&'()*+,=:@", true);
/// Visible ASCII but what no URI library accepts; browsers send the rest unencoded.
const QUERY_CHARACTER: [bool; 256] = class(b"-._~!$&'()*+,=:@;/?%[]{}|^`\\", true);
/// RFC 9110 `field-content`: tab, visible ASCII and space, and anything beyond ASCII.
const VALUE: [bool; 256] = {
    let mut table = [true; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = byte == 0x09;
        byte += 1;
    }
    table[0x7f] = false;
    table
};

#[cfg(test)]
mod tests;
