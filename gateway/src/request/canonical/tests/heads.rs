use http::Method;
use proptest::prelude::*;

use crate::request::canonical::{Malformed, RawHead, head, method_is_served};

const HEAD: &[u8] = b"POST /api/tasks?q=1 HTTP/1.1\r\nHost: example.org\r\nContent-Length: 12\r\n\
    Authorization: Bearer abc\r\nX-Empty:\r\nX-Tab:\ta\tb \xc3\xa9\r\n\r\n";

/// A head with these header lines and a Host.
pub(super) fn with(lines: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n").into_bytes()
}

#[test]
fn a_strict_head_is_accepted_and_read() {
    let read = RawHead {
        method: "POST",
        target: "/api/tasks?q=1",
        headers: 5,
        length: HEAD.len(),
    };
    assert_eq!(head(HEAD), Ok(read));
    assert_eq!(head(&[HEAD, b"{\"a\": 1}\r\n\r\n"].concat()), Ok(read));
    for lines in [
        "Transfer-Encoding: Chunked \r\n",
        "content-length:0\r\nx_custom: 1\r\n",
        // This header is removed, not refused.
        "x-user-id: 7\r\n",
    ] {
        assert!(head(&with(lines)).is_ok(), "{lines:?}");
    }
    for whole in [
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1]:8001\r\n\r\n",
        // Refused later, because of its method.
        "CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n",
    ] {
        assert!(head(whole.as_bytes()).is_ok(), "{whole:?}");
    }
}

#[test]
fn every_ambiguous_request_line_is_refused() {
    let cases: [(&[u8], Malformed); 16] = [
        (b"", Malformed::Incomplete),
        (
            b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            Malformed::RequestLine,
        ),
        (
            b" GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            Malformed::RequestLine,
        ),
        (
            b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            Malformed::RequestLine,
        ),
        (
            b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
            Malformed::RequestLine,
        ),
        (
            b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
            Malformed::RequestLine,
        ),
        (
            b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
            Malformed::RequestLine,
        ),
        (b"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", Malformed::TargetByte),
        (
            b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
            Malformed::TargetByte,
        ),
        (
            b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
            Malformed::TargetByte,
        ),
        (b"GET /\r\n\r\n", Malformed::RequestLine),
        (
            b"GE(T / HTTP/1.1\r\nHost: a\r\n\r\n",
            Malformed::RequestLine,
        ),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", Malformed::RequestLine),
        (b"GET / http/1.1\r\nHost: a\r\n\r\n", Malformed::RequestLine),
        (b"GET / HTTP/1.1\nHost: a\r\n\r\n", Malformed::BareLineBreak),
        (
            b"GET /\nHTTP/1.1\r\nHost: a\r\n\r\n",
            Malformed::BareLineBreak,
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(head(text), Err(expected), "{}", text.escape_ascii());
    }
}

#[test]
fn every_ambiguous_header_is_refused() {
    let cases = [
        ("A: b\nC: d\r\n", Malformed::BareLineBreak),
        ("A: b\rC: d\r\n", Malformed::BareLineBreak),
        ("A\nB: c\r\n", Malformed::BareLineBreak),
        ("\n", Malformed::BareLineBreak),
        ("A: b\r\r\n", Malformed::BareLineBreak),
        ("A: b\r\n c\r\n", Malformed::FoldedHeader),
        ("\tA: b\r\n", Malformed::FoldedHeader),
        ("A : b\r\n", Malformed::SpaceBeforeColon),
        ("A\t: b\r\n", Malformed::SpaceBeforeColon),
        ("A b: c\r\n", Malformed::SpaceBeforeColon),
        (": b\r\n", Malformed::HeaderName),
        ("A\r\n", Malformed::HeaderName),
        ("A(: b\r\n", Malformed::HeaderName),
        ("é: b\r\n", Malformed::HeaderName),
        ("A: b\0\r\n", Malformed::HeaderValue),
        ("A: b\u{7f}\r\n", Malformed::HeaderValue),
        ("Content-Length: +5\r\n", Malformed::ContentLength),
        ("Content-Length: -5\r\n", Malformed::ContentLength),
        ("Content-Length: 5, 5\r\n", Malformed::ContentLength),
        ("Content-Length: 0x5\r\n", Malformed::ContentLength),
        ("Content-Length: 5 5\r\n", Malformed::ContentLength),
        ("Content-Length:\r\n", Malformed::ContentLength),
        (
            "Content-Length: 99999999999999999999\r\n",
            Malformed::ContentLength,
        ),
        (
            "Content-Length: 5\r\ncontent-length: 5\r\n",
            Malformed::DuplicateContentLength,
        ),
        (
            "Transfer-Encoding: identity\r\n",
            Malformed::TransferEncoding,
        ),
        (
            "Transfer-Encoding: identity, chunked\r\n",
            Malformed::TransferEncoding,
        ),
        (
            "Transfer-Encoding: chunked, chunked\r\n",
            Malformed::TransferEncoding,
        ),
        (
            "Transfer-Encoding: chunked;a=b\r\n",
            Malformed::TransferEncoding,
        ),
        (
            "Transfer-Encoding: \u{b}chunked\r\n",
            Malformed::HeaderValue,
        ),
        ("Transfer-Encoding:\r\n", Malformed::TransferEncoding),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            Malformed::TransferEncoding,
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            Malformed::ContentLengthWithTransferEncoding,
        ),
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            Malformed::ContentLengthWithTransferEncoding,
        ),
        (
            "Authorization: a\r\nauthorization: a\r\n",
            Malformed::DuplicateAuthorization,
        ),
        ("host: a\r\n", Malformed::DuplicateHost),
        ("host: a\r\n\r\n", Malformed::DuplicateHost),
    ];
    for (lines, expected) in cases {
        assert_eq!(head(&with(lines)), Err(expected), "{lines:?}");
    }
    let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(head(old), Err(Malformed::TransferEncodingInHttp10));
    assert_eq!(head(b"GET / HTTP/1.1\r\n\r\n"), Err(Malformed::MissingHost));
}

#[test]
fn connect_and_trace_are_not_served() {
    assert!(!method_is_served(&Method::CONNECT) && !method_is_served(&Method::TRACE));
    assert!(method_is_served(&Method::GET) && method_is_served(&Method::OPTIONS));
}

#[test]
fn every_detail_is_a_sentence() {
    let text = Malformed::EncodedDelimiter.to_string();
    assert_eq!(text, Malformed::EncodedDelimiter.detail());
    assert!(text.ends_with('.'));
}

/// Heads made of pieces that are hard to parse, most of them well formed.
pub(crate) fn tricky_head() -> impl Strategy<Value = Vec<u8>> {
    let method = prop_oneof![
        Just("GET"),
        Just("POST"),
        Just("CONNECT"),
        Just("p!*~"),
        Just("")
    ];
    let target = prop_oneof!["/[!-~]{0,8}", "[!-~]{0,8}", "/[ -\u{ff}]{0,3}"];
    let version = prop_oneof![4 => Just(" HTTP/1.1"), 1 => Just(" HTTP/1.0"), 1 => Just("")];
    let name = prop_oneof![
        Just("host".to_owned()),
        Just("Content-Length".to_owned()),
        Just("transfer-encoding".to_owned()),
        Just("connection".to_owned()),
        "[!-~]{1,6}",
    ];
    let value = prop_oneof![
        Just("example.org".to_owned()),
        Just("chunked".to_owned()),
        "[0-9]{1,3}",
        "[!-~]{0,4}",
        "[\t -\u{ff}]{0,6}",
    ];
    let end = prop_oneof![8 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r")];
    let line = (name, value, end).prop_map(|(name, value, end)| format!("{name}: {value}{end}"));
    let lines = prop::collection::vec(line, 0..5);
    (method, target, version, lines, "[ -~]{0,3}").prop_map(
        |(method, target, version, lines, body)| {
            let lines = lines.concat();
            format!("{method} {target}{version}\r\nhost: a\r\n{lines}\r\n{body}").into_bytes()
        },
    )
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _answer = head(&bytes);
    }

    #[test]
    fn every_prefix_of_a_head_waits_for_more(length in 0..HEAD.len()) {
        prop_assert_eq!(head(&HEAD[..length]), Err(Malformed::Incomplete));
    }

    /// A head can therefore be checked while it arrives, in pieces of any size.
    #[test]
    fn no_verdict_changes_with_what_comes_next(bytes in tricky_head(), cut in 0.0..1.0) {
        let early = head(&bytes[..(bytes.len() as f64 * cut) as usize]);
        if early != Err(Malformed::Incomplete) {
            prop_assert_eq!(early, head(&bytes));
        }
    }

    /// After any byte is replaced by any other, an accepted head still has only whole lines.
    #[test]
    fn an_accepted_head_has_only_whole_lines(at in 0..HEAD.len(), byte in any::<u8>()) {
        let mut bytes = HEAD.to_vec();
        bytes[at] = byte;
        if let Ok(read) = head(&bytes) {
            let text = &bytes[..read.length];
            let whole = text.windows(2).filter(|pair| pair == b"\r\n").count();
            let breaks = text.iter().filter(|b| matches!(b, b'\r' | b'\n')).count();
            prop_assert_eq!(breaks, 2 * whole);
            prop_assert_eq!(whole, read.headers + 2);
        }
    }
}
