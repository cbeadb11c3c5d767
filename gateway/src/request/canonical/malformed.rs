//! Everything that makes a head or a path malformed or ambiguous.

/// Why a request is refused with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.detail())]
pub enum Malformed {
    RequestLine,
    TargetByte,
    /// More bytes may complete the head.
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
    Host,
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
    /// What is wrong and what to change. The client reads it.
    pub fn detail(self) -> &'static str {
        match self {
            Self::RequestLine => {
                "The request line must be METHOD SP target SP HTTP/1.0 or HTTP/1.1, with single spaces."
            }
            Self::TargetByte => {
                "The request target holds a control, a quote, `<`, `>` or a byte beyond ASCII; percent-encode it."
            }
            Self::Incomplete => "The request head must end with an empty line.",
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
            Self::Host => "Host must be a host name or an address, with a port where needed.",
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
