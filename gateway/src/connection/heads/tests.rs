use contract::problem::Kind;
use futures_util::FutureExt;
use http::Method;
use proptest::prelude::*;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, sleep};

use super::*;
use crate::request::canonical::tests::heads::tricky_head;

const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection, and the client's end of it.
fn connection() -> (Stream, DuplexStream) {
    let (ours, theirs) = duplex(64 << 10);
    (Box::new(ours), theirs)
}

async fn start(stream: &mut Stream) -> Option<RequestStart> {
    read_head(stream, BytesMut::new(), HEAD_TIMEOUT).await
}

/// The kind of refusal when these bytes arrive and nothing follows.
async fn refused(bytes: impl AsRef<[u8]>) -> Option<Kind> {
    let (mut stream, mut client) = connection();
    client.write_all(bytes.as_ref()).await.unwrap();
    let start = start(&mut stream).await.unwrap();
    start.refusal.map(|refusal| refusal.kind())
}

fn head(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: x\r\n{lines}\r\n")
}

#[tokio::test(start_paused = true)]
async fn a_head_is_waited_for_as_a_whole() {
    let (mut stream, mut client) = connection();
    let drip = tokio::spawn(async move {
        // Each byte would meet a deadline that started again with every read.
        for byte in head("/", &"x-slow: 1\r\n".repeat(20)).bytes() {
            sleep(HEAD_TIMEOUT / 20).await;
            if client.write_all(&[byte]).await.is_err() {
                break;
            }
        }
    });
    let started = Instant::now();
    let start = start(&mut stream).await.unwrap();
    assert_eq!(start.refusal.unwrap().kind(), Kind::RequestTimeout);
    assert_eq!(started.elapsed(), HEAD_TIMEOUT);
    drop(stream);
    drip.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_looked_at_once_more_when_everything_stops() {
    let (stop, mut stopped) = tokio::sync::watch::channel(true);
    let late = async { sleep(IDLE_READ_GRACE / 2).await };
    assert!(until_stopped(&mut stopped, late).await.is_some());
    let too_late = async { sleep(IDLE_READ_GRACE * 2).await };
    assert!(until_stopped(&mut stopped, too_late).await.is_none());
    stop.send_replace(false);
    let unhurried = async { sleep(HEAD_TIMEOUT).await };
    assert!(until_stopped(&mut stopped, unhurried).await.is_some());
}

#[tokio::test]
async fn a_head_in_pieces_is_read_with_what_came_after_it() {
    let text = head("/api/things/1", "content-length: 5\r\n") + "12345";
    for cut in 1..text.len() {
        let (mut stream, mut client) = connection();
        let (first, second) = text.as_bytes().split_at(cut);
        client.write_all(first).await.unwrap();
        let reading = async { start(&mut stream).await.unwrap() };
        let writing = async { client.write_all(second).await.unwrap() };
        let (start, ()) = tokio::join!(reading, writing);
        assert!(start.refusal.is_none());
        let whole = start.bytes == text.as_bytes();
        // A body that had not arrived yet is left to the proxy.
        assert!(whole || text.as_bytes().starts_with(&start.bytes), "{cut}");
    }
}

#[tokio::test]
async fn heads_are_bounded() {
    let lines = |n: usize| (0..n).map(|n| format!("x-{n}: 1\r\n")).collect::<String>();
    let long = |n: usize| format!("/{}", "a".repeat(n));
    let large = |n: usize| format!("x-large: {}\r\n", "x".repeat(n));
    let cases = [
        (head(&long(MAX_TARGET_BYTES - 1), ""), None),
        (head(&long(MAX_TARGET_BYTES), ""), Some(Kind::UriTooLong)),
        (long(MAX_HEAD_BYTES), Some(Kind::MalformedRequest)),
        (
            format!("GET {}", long(MAX_HEAD_BYTES)),
            Some(Kind::UriTooLong),
        ),
        (head("/", &lines(MAX_HEADERS - 1)), None),
        (head("/", &lines(MAX_HEADERS)), Some(Kind::HeaderTooLarge)),
        (head("/", &large(MAX_HEAD_BYTES - 64)), None),
        (
            head("/", &large(MAX_HEAD_BYTES)),
            Some(Kind::HeaderTooLarge),
        ),
        (
            format!(
                "GET / HTTP/1.1\r\nx-endless: {}",
                "x".repeat(MAX_HEAD_BYTES)
            ),
            Some(Kind::HeaderTooLarge),
        ),
    ];
    for (text, expected) in cases {
        let start = text.get(..40).unwrap_or(&text).to_owned();
        assert_eq!(refused(text).await, expected, "{start}");
    }
}

#[tokio::test]
async fn what_can_be_no_head_is_not_waited_for() {
    for text in [
        // A TLS handshake, another protocol, line feeds without carriage returns.
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}",
        "SSH-2.0-client\r\n",
        "GET / HTTP/1.1\nhost: x\n\n",
        "GET / HTTP/1.1\r\n\thost: x\r\n",
    ] {
        assert_eq!(
            refused(text).await,
            Some(Kind::MalformedRequest),
            "{text:?}"
        );
    }
    assert_eq!(
        refused("CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n").await,
        Some(Kind::MethodNotAllowed)
    );
}

#[test]
fn a_refused_head_is_stood_in_for_by_what_of_it_can_be_read() {
    let cases = [
        ("PUT /a/b?secret HTTP/1.1\n", "PUT /a/b"),
        ("HEAD /a//b HTTP/1.1\r\n", "HEAD /a//b"),
        ("BREW /a HTTP/1.1", "- /a"),
        ("GET http://x/a HTTP/1.1", "GET /"),
        ("GET /a`b HTTP/1.1", "GET /"),
        ("GET /\u{e9} HTTP/1.1", "GET /"),
        ("GET /\u{7f} HTTP/1.1", "GET /"),
        ("CONNECT x:80 HTTP/1.1", "- /"),
        ("", "- /"),
        ("\u{16}\u{3}\u{1}", "- /"),
    ];
    for (text, line) in cases {
        let placeholder_head = placeholder_head(text.as_bytes());
        let expected = format!("{line} HTTP/1.1\r\nhost: -\r\n\r\n");
        assert_eq!(placeholder_head, expected.as_bytes(), "{text:?}");
    }
    let long = placeholder_head(format!("GET /{} HTTP/1.1", "a".repeat(9 << 10)).as_bytes());
    assert!(long.len() < MAX_INSTANCE + 64);
}

/// Pingora's reading of bytes that start with a whole head, without a connection.
fn read_by_pingora(bytes: BytesMut) -> Option<ServerSession> {
    let mut session = ServerSession::new_http1(Box::new(std::io::Cursor::new(Vec::new())));
    session.set_pipelined_prefix(bytes);
    let read = session.read_request().now_or_never()?;
    matches!(read, Ok(true)).then_some(session)
}

proptest! {
    /// The proxy's own parser never refuses, repairs or shortens a head that was accepted here.
    #[test]
    fn pingora_reads_a_head_as_it_was_sent(bytes in tricky_head()) {
        let Ok(true) = is_whole(&bytes) else { return Ok(()) };
        let read = canonical::head(&bytes).unwrap();
        let Some(session) = read_by_pingora(BytesMut::from(&bytes[..])) else {
            return Err(TestCaseError::fail("refused"));
        };
        let request = session.req_header();
        prop_assert_eq!(request.method.as_str(), read.method);
        prop_assert_eq!(request.raw_path(), read.target.as_bytes());
        prop_assert_eq!(request.headers.len(), read.headers);
        let text = session.to_h1_raw();
        prop_assert_eq!(&text[..], &bytes[..read.length]);
    }

    #[test]
    fn pingora_reads_whatever_stands_in_for_a_refused_head(
        bytes in prop_oneof![tricky_head(), prop::collection::vec(any::<u8>(), 0..100)]
    ) {
        let placeholder_head = placeholder_head(&bytes);
        prop_assert!(placeholder_head.len() < MAX_INSTANCE + 64);
        let session = read_by_pingora(placeholder_head);
        let Some(session) = session else {
            return Err(TestCaseError::fail("refused"));
        };
        prop_assert!(session.req_header().method != Method::CONNECT);
    }
}
