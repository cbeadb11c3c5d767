//! Refusals on the wire: their shape, and whether the connection lives on.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::gateway::start;
use crate::upstream::{Manner, Upstream};

/// Sends bytes and reads until the gateway closes, or has been quiet for a moment.
async fn exchange(address: SocketAddr, request: &str) -> (String, bool) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let quiet = Duration::from_millis(700);
        match tokio::time::timeout(quiet, stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => return (String::from_utf8(answer).unwrap(), true),
            Ok(Ok(n)) => answer.extend_from_slice(&buffer[..n]),
            Err(_) => return (String::from_utf8(answer).unwrap(), false),
        }
    }
}

#[tokio::test]
async fn refused_requests_keep_their_connection() {
    let upstream = Upstream::start(Manner::Echo).await;
    let gateway = start(&[upstream.address], "").await;
    let one = "GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n";
    let two = "DELETE /api/things/1 HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";
    let mut stream = TcpStream::connect(gateway.http).await.unwrap();
    let mut seen = String::new();
    for (request, status) in [(one, "404"), (two, "401"), (one, "404")] {
        stream.write_all(request.as_bytes()).await.unwrap();
        seen.clear();
        while !seen.ends_with('}') {
            let mut buffer = [0; 4096];
            let n = stream.read(&mut buffer).await.unwrap();
            assert!(n > 0, "the connection was closed after {seen:?}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
        assert!(seen.starts_with(&format!("HTTP/1.1 {status} ")), "{seen}");
        assert!(seen.contains("application/problem+json"), "{seen}");
    }
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn a_request_that_is_not_canonical_is_refused_and_never_forwarded() {
    let upstream = Upstream::start(Manner::Echo).await;
    let gateway = start(&[upstream.address], "").await;
    for target in [
        "/api//things/1",
        "/api/things/../users",
        "/api/things/%2e%2e/users",
        "/api/things/a%2fb",
        "/api/things/a%00",
        "/api/things/a;b",
        "/api/things/a\\b",
        "http://x/api/things/1",
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n");
        let (answer, closed) = exchange(gateway.http, &request).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{target}: {answer}");
        assert!(
            answer.contains("/problems/malformed-request"),
            "{target}: {answer}"
        );
        assert!(closed, "{target}: the connection stayed open");
    }
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn ambiguous_framing_is_refused_and_never_forwarded() {
    let upstream = Upstream::start(Manner::Echo).await;
    let gateway = start(&[upstream.address], "").await;
    for fields in [
        "content-length: 1\r\ntransfer-encoding: chunked\r\n",
        "content-length: 1\r\ncontent-length: 1\r\n",
        "content-length: +1\r\n",
        "transfer-encoding: chunked, chunked\r\n",
        "transfer-encoding: identity, chunked\r\n",
        "transfer-encoding: gzip\r\n",
        "x-a: 1\r\n folded\r\n",
        "x-a: 1\nx-b: 2\r\n",
        "x_user_id: bob\r\n",
        "X-User_Id: bob\r\n",
        "authorization: Bearer a\r\nauthorization: Bearer b\r\n",
    ] {
        let request = format!("POST /api/things/1 HTTP/1.1\r\nhost: x\r\n{fields}\r\n0\r\n\r\n");
        let (answer, closed) = exchange(gateway.http, &request).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{fields:?}: {answer}");
        assert!(closed, "{fields:?}: the connection stayed open");
    }
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn connect_and_trace_are_not_allowed() {
    let upstream = Upstream::start(Manner::Echo).await;
    let gateway = start(&[upstream.address], "").await;
    for line in ["CONNECT x:80 HTTP/1.1", "TRACE /api/things/1 HTTP/1.1"] {
        let (answer, _) = exchange(gateway.http, &format!("{line}\r\nhost: x\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 405 "), "{line}: {answer}");
        assert!(answer.contains("allow: GET"), "{line}: {answer}");
        assert!(
            answer.contains("/problems/method-not-allowed"),
            "{line}: {answer}"
        );
    }
}

#[tokio::test]
async fn a_body_over_the_cap_is_413_declared_or_chunked() {
    let upstream = Upstream::start(Manner::Echo).await;
    let gateway = start(&[upstream.address], "max_body: 1KiB").await;
    let declared = format!(
        "POST /api/things/1 HTTP/1.1\r\nhost: x\r\ncontent-length: 1025\r\n\r\n{}",
        "x".repeat(1025)
    );
    let chunked = format!(
        "POST /api/things/1 HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n401\r\n{}\r\n0\r\n\r\n",
        "x".repeat(1025)
    );
    for request in [declared, chunked] {
        let (answer, _) = exchange(gateway.http, &request).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.contains("/problems/payload-too-large"), "{answer}");
    }
}

#[tokio::test]
async fn a_refusal_after_100_continue_is_still_answered() {
    let upstream = Upstream::start(Manner::Continue).await;
    let gateway = start(&[upstream.address], "max_body: 1KiB").await;
    let mut stream = TcpStream::connect(gateway.http).await.unwrap();
    let head = "POST /api/things/1 HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    let chunk = format!("401\r\n{}\r\n0\r\n\r\n", "x".repeat(1025));
    stream.write_all(chunk.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn heads_and_targets_that_a_worker_would_not_take_are_refused_here() {
    let upstream = Upstream::start(Manner::Echo).await;
    let gateway = start(&[upstream.address], "").await;
    let many: String = (0..81).map(|n| format!("x-{n}: 1\r\n")).collect();
    let large = format!("x-large: {}\r\n", "x".repeat(24 << 10));
    for (target, headers, status, kind) in [
        ("/api/things/1", many.as_str(), 431, "header-too-large"),
        ("/api/things/1", large.as_str(), 431, "header-too-large"),
        (
            &format!("/api/things/{}", "a".repeat(8 << 10)),
            "",
            414,
            "uri-too-long",
        ),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
        let (answer, closed) = exchange(gateway.http, &request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(answer.contains(&format!("/problems/{kind}")), "{answer}");
        assert!(answer.len() < 2048 && closed);
    }
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn an_http_1_0_client_reads_to_the_end_of_its_connection() {
    let upstream = Upstream::start(Manner::Echo).await;
    let gateway = start(&[upstream.address], "").await;
    let request = "GET /api/things/1 HTTP/1.0\r\nhost: x\r\n\r\n";
    let (answer, closed) = exchange(gateway.http, request).await;
    assert!(answer.contains(" 200 ") && closed, "{answer}");
}
