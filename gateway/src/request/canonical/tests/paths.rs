use proptest::prelude::*;

use crate::request::canonical::{Malformed, path};

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

/// Paths made of pieces that are hard to parse.
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

        // Decoded once, as by a worker, it has the same segments, and none of them is `.` or `..`.
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
        // Any result is fine, as long as nothing panics.
        let _answer = path(&target);
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
