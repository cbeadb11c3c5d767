//! Requests that can be read in more than one way: the gateway refuses them, closes the connection and
//! sends nothing upstream.

use std::time::Duration;

use contract::problem::Kind;
use testkit::eventually;

use crate::gateway::start;
use crate::upstream::{Behaviour, Upstream};
use crate::wire::{Wire, refused};

/// Asserts that each request is refused with 400, in the format of all refusals, and that nothing is
/// sent upstream.
async fn are_malformed<T: AsRef<[u8]>>(requests: impl IntoIterator<Item = (T, &str)>) {
    let upstream = Upstream::start(Behaviour::Echo).await;
    let gateway = start(&[upstream.address], "").await;
    for (request, instance) in requests {
        let answer = refused(gateway.http, request).await;
        answer.is_problem(Kind::MalformedRequest, instance);
    }
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn a_path_with_a_second_spelling_is_refused() {
    let things = |rest: &str| format!("/api/things/{rest}");
    let targets = [
        "//",
        "/./a",
        "/../users",
        "/a/..",
        "/.",
        "%2e%2e/users",
        "%2E/a",
        "a%2fb",
        "a%2Fb",
        "a%5cb",
        "a%5Cb",
        "a%00",
        "a%0d%0a",
        "a%7f",
        "a;b",
        "..;/users",
        "a\\b",
        "a%",
        "a%2",
        "a%zz",
        "logi%6E",
        "%7Ea",
        "{a}",
        "a|b",
        "a^b",
        "a\"b",
    ]
    .map(|rest| {
        let target = things(rest);
        (target.clone(), target)
    });
    // No URI can hold these, so the response names no path.
    let unnameable = ["a`b", "a<b", "a\x01b", "a\x7fb"].map(|rest| (things(rest), "/".into()));
    let elsewhere = [
        ("/api/things/a#b", "/api/things/a"),
        ("//host/api/things/1", "//host/api/things/1"),
        ("/\\host/api/things/1", "/\\host/api/things/1"),
        ("/api//things/1", "/api//things/1"),
        ("/%61pi/things/1", "/%61pi/things/1"),
        ("http://x/api/things/1", "/"),
        ("*", "/"),
        ("api/things/1", "/"),
    ]
    .map(|(target, instance)| (target.to_owned(), instance.to_owned()));
    let all: Vec<(String, String)> = targets
        .into_iter()
        .chain(unnameable)
        .chain(elsewhere)
        .map(|(target, instance)| {
            (
                format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n"),
                instance,
            )
        })
        .collect();
    are_malformed(
        all.iter()
            .map(|(request, instance)| (request, instance.as_str())),
    )
    .await;
}

#[tokio::test]
async fn a_query_or_path_byte_that_is_no_visible_ascii_is_refused() {
    let mut requests = Vec::new();
    for (byte, instance) in [
        (0x80, "/"),
        (0xff, "/"),
        (0x00, "/"),
        (0x09, "/"),
        (0x0b, "/"),
    ] {
        for place in [&b"/api/things/"[..], b"/api/things/1?q="] {
            let request = [b"GET ", place, &[byte], b"a HTTP/1.1\r\nhost: x\r\n\r\n"].concat();
            let instance = if place.ends_with(b"=") {
                "/api/things/1"
            } else {
                instance
            };
            requests.push((request, instance));
        }
    }
    requests.push((
        "GET /api/things/\u{e9} HTTP/1.1\r\nhost: x\r\n\r\n".into(),
        "/",
    ));
    are_malformed(requests).await;
}

#[tokio::test]
async fn a_body_whose_end_is_ambiguous_is_refused() {
    let fields = [
        // Both headers, in either order.
        "content-length: 1\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 0\r\n",
        "Content-Length: 4\r\nTransfer-Encoding: identity\r\n",
        "content-length: 1\r\ncontent-length: 1\r\n",
        "content-length: 1\r\nContent-Length: 2\r\n",
        "content-length: 1, 1\r\n",
        "content-length: +5\r\n",
        "content-length: -1\r\n",
        "content-length: 0x5\r\n",
        "content-length: 5 5\r\n",
        "content-length: \r\n",
        "content-length: 99999999999999999999\r\n",
        "transfer-encoding: identity, chunked\r\n",
        "transfer-encoding: chunked, chunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: gzip\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked;q=1\r\n",
        "transfer-encoding: \"chunked\"\r\n",
        "transfer-encoding:\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        "transfer-encoding: \x0bchunked\r\n",
        "transfer-encoding : chunked\r\n",
        " transfer-encoding: chunked\r\n",
    ];
    let requests = fields
        .map(|fields| format!("POST /api/things/1 HTTP/1.1\r\nhost: x\r\n{fields}\r\n0\r\n\r\n"));
    are_malformed(requests.iter().map(|request| (request, "/api/things/1"))).await;
}

#[tokio::test]
async fn http_1_0_has_no_transfer_encoding() {
    let request =
        "POST /api/things/1 HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    are_malformed([(request, "/api/things/1")]).await;
}

#[tokio::test]
async fn a_line_that_is_not_whole_is_refused() {
    let heads = [
        "GET /api/things/1 HTTP/1.1\nhost: x\r\n\r\n",
        "GET /api/things/1 HTTP/1.1\r\nhost: x\n\r\n",
        "GET /api/things/1 HTTP/1.1\r\nhost: x\r\n\n",
        "GET /api/things/1 HTTP/1.1\nhost: x\n\n",
        "GET /api/things/1 HTTP/1.1\r\nhost: x\r\nx-a: 1\nx-b: 2\r\n\r\n",
        "GET /api/things/1 HTTP/1.1\r\nhost: x\r\nx-a: 1\rx-b: 2\r\n\r\n",
        "GET /api/things/1 HTTP/1.1\r\nhost: x\r\nx-a: 1\r\r\n\r\n",
        // Continuation lines.
        "GET /api/things/1 HTTP/1.1\r\nhost: x\r\nx-a: 1\r\n folded\r\n\r\n",
        "GET /api/things/1 HTTP/1.1\r\nhost: x\r\nx-a: 1\r\n\tfolded\r\n\r\n",
        "GET /api/things/1 HTTP/1.1\r\n host: x\r\n\r\n",
        // Names and values.
        "GET /api/things/1 HTTP/1.1\r\nhost : x\r\n\r\n",
        "GET /api/things/1 HTTP/1.1\r\nhost: x\r\nx a: 1\r\n\r\n",
        "GET /api/things/1 HTTP/1.1\r\nhost: x\r\nx(a: 1\r\n\r\n",
        "GET /api/things/1 HTTP/1.1\r\nhost: x\r\nno colon\r\n\r\n",
        "GET /api/things/1 HTTP/1.1\r\nhost: x\r\n: 1\r\n\r\n",
        "GET /api/things/1 HTTP/1.1\r\nhost: x\r\nx-a: \0\r\n\r\n",
        "GET /api/things/1 HTTP/1.1\r\nhost: x\r\nx-a: \x7f\r\n\r\n",
        // Request lines.
        "GET /api/things/1\r\n\r\n",
        "GET /api/things/1 HTTP/2.0\r\nhost: x\r\n\r\n",
        "GET /api/things/1 http/1.1\r\nhost: x\r\n\r\n",
        "GET /api/things/1 HTTP/1.1 \r\nhost: x\r\n\r\n",
        "GET /api/things/1  HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /api/things/1 2 HTTP/1.1\r\nhost: x\r\n\r\n",
        "G(T /api/things/1 HTTP/1.1\r\nhost: x\r\n\r\n",
        // Hosts.
        "GET /api/things/1 HTTP/1.1\r\n\r\n",
        "GET /api/things/1 HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
        "GET /api/things/1 HTTP/1.1\r\nhost: a@x\r\n\r\n",
        "GET /api/things/1 HTTP/1.1\r\nhost: x/y\r\n\r\n",
    ];
    are_malformed(heads.map(|head| (head, "/api/things/1"))).await;
    are_malformed([
        ("\r\nGET /api/things/1 HTTP/1.1\r\nhost: x\r\n\r\n", "/"),
        (" GET /api/things/1 HTTP/1.1\r\nhost: x\r\n\r\n", "/"),
        ("GET\t/api/things/1\tHTTP/1.1\r\nhost: x\r\n\r\n", "/"),
        ("GET  /api/things/1 HTTP/1.1\r\nhost: x\r\n\r\n", "/"),
        ("nonsense\r\n\r\n", "/"),
        ("\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03", "/"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "/"),
    ])
    .await;
}

#[tokio::test]
async fn an_identity_header_with_an_underscore_and_a_second_authorization_are_refused() {
    let fields = [
        "x_user_id: bob",
        "X-User_Id: bob",
        "X_USER_ID: bob",
        "x_session_id: s",
        "x_token_expires: 1",
        "x_client_address: 10.0.0.1",
        "x_gateway_signature: s",
        "x_forwarded_for: 10.0.0.1",
        "x_claim_role: admin",
        "x_request_id: 0123456789abcdef",
        "authorization: Bearer a\r\nauthorization: Bearer b",
        "authorization: Bearer a\r\nAuthorization: Bearer a",
    ];
    let requests =
        fields.map(|fields| format!("GET /api/things/1 HTTP/1.1\r\nhost: x\r\n{fields}\r\n\r\n"));
    are_malformed(requests.iter().map(|request| (request, "/api/things/1"))).await;
}

#[tokio::test]
async fn connect_and_trace_are_not_allowed() {
    let upstream = Upstream::start(Behaviour::Echo).await;
    let gateway = start(&[upstream.address], "").await;
    for (line, instance) in [
        ("CONNECT x:80 HTTP/1.1", "/"),
        ("CONNECT other:80 HTTP/1.1", "/"),
        ("CONNECT /api/things/1 HTTP/1.1", "/api/things/1"),
        ("TRACE /api/things/1 HTTP/1.1", "/api/things/1"),
    ] {
        let mut wire = Wire::connect(gateway.http).await;
        wire.send(format!("{line}\r\nhost: x\r\nconnection: close\r\n\r\n"))
            .await;
        let answer = wire.answer().await;
        answer.is_problem(Kind::MethodNotAllowed, instance);
        assert_eq!(
            answer.header("allow"),
            Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
        );
        wire.is_closed().await;
    }
    assert_eq!(upstream.requests(), 0);
}

/// Bytes after a refused head are never read as a request. Nor are bytes that were sent before the
/// response to the request in front of them.
#[tokio::test]
async fn nothing_is_read_behind_a_request_that_cannot_be_trusted() {
    let upstream = Upstream::start(Behaviour::Echo).await;
    let gateway = start(&[upstream.address], "").await;
    let hidden = "GET /api/things/hidden HTTP/1.1\r\nhost: x\r\n\r\n";
    let smuggled = format!(
        "POST /api/things/1 HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
    );
    refused(gateway.http, smuggled).await;
    assert_eq!(upstream.requests(), 0);

    let mut wire = Wire::connect(gateway.http).await;
    wire.send(format!(
        "GET /api/things/1 HTTP/1.1\r\nhost: x\r\n\r\n{hidden}"
    ))
    .await;
    wire.rest().await;
    assert!(upstream.requests() <= 1);
}

#[tokio::test]
async fn what_no_parser_was_shown_is_counted_and_logged_like_any_request() {
    let upstream = Upstream::start(Behaviour::Echo).await;
    let gateway = start(&[upstream.address], "").await;
    for request in [
        "PUT /api//things HTTP/1.1\r\nhost: x\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        refused(gateway.http, request).await;
    }
    let metrics = gateway.admin().get("/metrics").send().await.text();
    for method in ["PUT", "other"] {
        let line =
            format!("gateway_requests_total{{method=\"{method}\",service=\"\",status=\"400\"}} 1");
        assert!(metrics.contains(&line), "{metrics}");
    }
    eventually(Duration::from_secs(5), async || {
        let log = gateway.process.log();
        let lines = log.lines().filter(|line| line.contains("\"refusal\""));
        let lines: Vec<&str> = lines.collect();
        lines.len() == 2
            && lines[0].contains("\"method\":\"PUT\",\"path\":\"/api//things\"")
            && lines[1].contains("\"method\":\"-\",\"path\":\"/\"")
            && lines
                .iter()
                .all(|line| line.contains("/problems/malformed-request"))
    })
    .await;
}

#[tokio::test]
async fn the_path_that_was_decided_on_is_the_one_that_is_forwarded() {
    let upstream = Upstream::start(Behaviour::Echo).await;
    let gateway = start(&[upstream.address], "").await;
    for target in [
        "/api/things/a%20b%C3%A9%25%3B",
        "/api/things/-._~!$&'()*+,=:@",
        "/api/things/1?a=//../%2e;\\|{}^`'?[]",
        "/api/things/1?",
        "/api/things/...",
    ] {
        let mut wire = Wire::connect(gateway.http).await;
        wire.send(format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n"))
            .await;
        let answer = wire.answer().await;
        let forwarded = answer.text();
        let line = format!("GET {target} HTTP/1.1\r\n");
        assert!(forwarded.starts_with(&line), "{target}: {forwarded}");
    }
}
