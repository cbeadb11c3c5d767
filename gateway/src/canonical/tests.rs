use proptest::prelude::*;

use super::*;

// === paths ===

#[test]
fn a_canonical_path_is_accepted_as_it_is() {
    let cases = [
        ("/", "/", None),
        ("/api/tasks", "/api/tasks", None),
        ("/api/tasks/", "/api/tasks/", None),
        ("/a?", "/a", Some("")),
        (
            "/a?b=//../%2e;\\|{}^`'?",
            "/a",
            Some("b=//../%2e;\\|{}^`'?"),
        ),
        ("/...", "/...", None),
        ("/.well-known/jwks.json", "/.well-known/jwks.json", None),
        ("/a%20b%C3%A9%25%3B", "/a%20b%C3%A9%25%3B", None),
        ("/-._~!$&'()*+,=:@", "/-._~!$&'()*+,=:@", None),
    ];
    for (target, expected, query) in cases {
        let path = path(target).unwrap();
        assert_eq!((path.path(), path.query()), (expected, query));
        assert_eq!(path.target(), target);
    }
}

#[test]
fn every_second_spelling_of_a_path_is_refused() {
    let cases = [
        ("", Malformed::NotOriginForm),
        ("*", Malformed::NotOriginForm),
        ("api", Malformed::NotOriginForm),
        ("http://host/api", Malformed::NotOriginForm),
        ("host:443", Malformed::NotOriginForm),
        ("//", Malformed::EmptySegment),
        ("//host/a", Malformed::EmptySegment),
        ("/a//b", Malformed::EmptySegment),
        ("/a//", Malformed::EmptySegment),
        ("/a//?b", Malformed::EmptySegment),
        ("/.", Malformed::DotSegment),
        ("/..", Malformed::DotSegment),
        ("/a/./b", Malformed::DotSegment),
        ("/a/../b", Malformed::DotSegment),
        ("/a/..?b", Malformed::DotSegment),
        ("/a;b/c", Malformed::Semicolon),
        ("/..;/a", Malformed::Semicolon),
        ("/a\\b", Malformed::Backslash),
        ("/a#b", Malformed::Fragment),
        ("/a?b#c", Malformed::Fragment),
        ("/a b", Malformed::PathByte),
        ("/a\tb", Malformed::PathByte),
        ("/a\0", Malformed::PathByte),
        ("/a\u{7f}", Malformed::PathByte),
        ("/é", Malformed::PathByte),
        ("/a\"b", Malformed::PathByte),
        ("/{a}", Malformed::PathByte),
        ("/a?b c", Malformed::QueryByte),
        ("/a?b\n", Malformed::QueryByte),
        ("/a?é", Malformed::QueryByte),
        ("/a?<b>", Malformed::QueryByte),
        ("/%", Malformed::PercentEscape),
        ("/%2", Malformed::PercentEscape),
        ("/%2/", Malformed::PercentEscape),
        ("/%zz", Malformed::PercentEscape),
        ("/%+1", Malformed::PercentEscape),
        ("/%u002f", Malformed::PercentEscape),
        ("/a%2fb", Malformed::EncodedDelimiter),
        ("/a%2Fb", Malformed::EncodedDelimiter),
        ("/a%5cb", Malformed::EncodedDelimiter),
        ("/%2e%2E/a", Malformed::EncodedDelimiter),
        ("/a%00", Malformed::EncodedDelimiter),
        ("/a%0d%0a", Malformed::EncodedDelimiter),
        ("/a%7F", Malformed::EncodedDelimiter),
        ("/logi%6E", Malformed::EncodedPlainCharacter),
        ("/%7Ea", Malformed::EncodedPlainCharacter),
    ];
    for (target, expected) in cases {
        assert_eq!(path(target), Err(expected), "{target}");
    }
}

/// Paths made of the pieces that matter.
fn tricky_target() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("/".to_owned()),
        Just(".".to_owned()),
        Just("%".to_owned()),
        Just("?".to_owned()),
        Just(";".to_owned()),
        "[a-c0-9]{1,3}",
        "%[0-9a-fA-F]{2}",
        "[ -~]",
        "\\PC",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #[test]
    fn an_accepted_path_has_one_spelling_and_is_forwarded_unchanged(target in tricky_target()) {
        let Ok(canonical) = path(&target) else {
            return Ok(());
        };
        prop_assert_eq!(canonical.target(), target.as_str());
        let accepted = canonical.path();
        match canonical.query() {
            Some(query) => prop_assert_eq!(format!("{accepted}?{query}"), target.as_str()),
            None => prop_assert_eq!(accepted, target.as_str()),
        }
        prop_assert_eq!(path(accepted).map(|again| again.path()), Ok(accepted));
        prop_assert!(accepted.starts_with('/'));
        let forbidden = |b: u8| !b.is_ascii_graphic() || b";\\#?\"<>{}|^`".contains(&b);
        prop_assert!(!accepted.bytes().any(forbidden));
        prop_assert!(!accepted.contains("//"));

        // Decoded once, as a worker does, it has the same segments and none that walks upwards.
        let decoded = decode(accepted);
        prop_assert_eq!(
            decoded.iter().filter(|&&b| b == b'/').count(),
            accepted.matches('/').count()
        );
        prop_assert!(!decoded.iter().any(|&b| b == b'\\' || b < 0x20 || b == 0x7f));
        for segment in decoded.split(|&b| b == b'/') {
            prop_assert!(segment != b"." && segment != b"..");
        }
    }

    #[test]
    fn no_target_panics(target in ".*") {
        // Any answer will do; it must be an answer.
        let _answer = path(&target);
    }

    #[test]
    fn no_head_panics(head in prop::collection::vec(any::<u8>(), 0..200)) {
        let _answer = raw_head(&head);
    }

    #[test]
    fn no_prefix_of_a_head_is_a_head(length in 0..HEAD.len()) {
        prop_assert!(raw_head(&HEAD[..length]).is_err());
    }

    /// Whatever byte is put wherever: accepted heads have the lines and names they seem to have.
    #[test]
    fn an_accepted_head_has_only_whole_lines(at in 0..HEAD.len(), byte in any::<u8>()) {
        let mut head = HEAD.to_vec();
        head[at] = byte;
        if raw_head(&head).is_ok() {
            let text: Vec<u8> = head.windows(2).filter(|w| w == b"\r\n").flatten().copied().collect();
            let breaks = head.iter().filter(|b| matches!(b, b'\r' | b'\n')).count();
            prop_assert_eq!(text.len(), breaks);
        }
    }
}

fn decode(path: &str) -> Vec<u8> {
    let bytes = path.as_bytes();
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            decoded.push(u8::from_str_radix(&path[at + 1..at + 3], 16).unwrap());
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    decoded
}

// === heads ===

const HEAD: &[u8] = b"POST /api/tasks?q=1 HTTP/1.1\r\nHost: example.org\r\nContent-Length: 12\r\n\
    Authorization: Bearer abc\r\nX-Empty:\r\nX-Tab:\ta\tb \xc3\xa9\r\n\r\n";

/// A head with these header lines and a Host.
fn head(lines: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n").into_bytes()
}

#[test]
fn a_strict_head_is_accepted_and_gives_its_target() {
    assert_eq!(raw_head(HEAD), Ok("/api/tasks?q=1"));
    assert_eq!(raw_head(b"GET / HTTP/1.0\r\n\r\n"), Ok("/"));
    assert_eq!(raw_head(&head("Transfer-Encoding: Chunked \r\n")), Ok("/"));
    assert_eq!(
        raw_head(&head("content-length:0\r\nx_custom: 1\r\n")),
        Ok("/")
    );
    assert_eq!(
        raw_head(&head("x-user-id: 7\r\n")),
        Ok("/"),
        "it is stripped, not refused"
    );
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
    for (head, expected) in cases {
        assert_eq!(raw_head(head), Err(expected), "{}", head.escape_ascii());
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
        ("\r\nrest", Malformed::Incomplete),
    ];
    for (lines, expected) in cases {
        assert_eq!(raw_head(&head(lines)), Err(expected), "{lines:?}");
    }
    let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(raw_head(old), Err(Malformed::TransferEncodingInHttp10));
    assert_eq!(
        raw_head(b"GET / HTTP/1.1\r\n\r\n"),
        Err(Malformed::MissingHost)
    );
}

#[test]
fn identity_headers_with_an_underscore_are_refused_in_every_mix() {
    let names = [
        "x_user_id",
        "X-User_Id",
        "x_user-id",
        "X_SESSION_ID",
        "x-token_expires",
        "x_client_address",
        "x_gateway_signature",
        "X-Gateway_Time",
        "x_gateway-new",
        "x_claim_tenant",
        "x-claim-a_b",
        "X_Forwarded_For",
        "x_forwarded-proto",
        "x-forwarded_host",
        "x_forwarded_port",
        "x_request_id",
    ];
    for name in names {
        let head = head(&format!("{name}: 1\r\n"));
        assert_eq!(
            raw_head(&head),
            Err(Malformed::UnderscoreInIdentityHeader),
            "{name}"
        );
        assert!(in_identity_family(name));
    }
    for name in [
        "x-user-id",
        "X-USER-ID",
        "x-claim-tenant",
        "x-forwarded-for",
    ] {
        assert!(in_identity_family(name), "{name}");
    }
    for name in [
        "x-user-ids",
        "user-id",
        "x-user",
        "x_custom",
        "traceparent",
        "x-gateway",
        "forwarded",
    ] {
        assert!(!in_identity_family(name), "{name}");
        assert_eq!(
            raw_head(&head(&format!("{name}: 1\r\n"))),
            Ok("/"),
            "{name}"
        );
    }
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
