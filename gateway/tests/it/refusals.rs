//! Refusals on the wire: their kinds, and whether the connection stays open.

use std::time::{Duration, Instant};

use contract::problem::Kind;
use testkit::{Nginx, raw};

use crate::gateway::{Setup, start};
use crate::upstream::{Behaviour, Upstream};
use crate::wire::{Wire, refused};

#[tokio::test]
async fn refused_requests_keep_their_connection() {
    let upstream = Upstream::start(Behaviour::Echo).await;
    let gateway = start(&[upstream.address], "").await;
    let nothing = "GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n";
    let anonymous = "DELETE /api/things/1 HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";
    let mut wire = Wire::connect(gateway.http).await;
    for (request, kind, instance) in [
        (nothing, Kind::NotFound, "/nothing"),
        (anonymous, Kind::Unauthenticated, "/api/things/1"),
        (nothing, Kind::NotFound, "/nothing"),
    ] {
        wire.send(request).await;
        let answer = wire.answer().await;
        answer.is_problem(kind, instance);
        assert_eq!(answer.header("connection"), Some("keep-alive"));
    }
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn nothing_is_served_beside_the_services() {
    let upstream = Upstream::start(Behaviour::Echo).await;
    let gateway = start(&[upstream.address], "").await;
    for path in [
        "/",
        "/api",
        "/api/thing",
        "/api/thingsx",
        "/API/things/1",
        "/readyz",
    ] {
        let reply = gateway.client().get(path).send().await.expect(404);
        assert_eq!(reply.json()["type"], "/problems/not-found", "{path}");
    }
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn an_exact_public_path_is_read_only() {
    let upstream = Upstream::start(Behaviour::Echo).await;
    let public = "public: {/keys.json: {service: things}}";
    let gateway = Setup::new(&[upstream.address]).top(public).start().await;
    let mut wire = Wire::connect(gateway.http).await;
    wire.send("POST /keys.json HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        .await;
    let answer = wire.answer().await;
    answer.is_problem(Kind::MethodNotAllowed, "/keys.json");
    assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    assert_eq!(upstream.requests(), 0);
    gateway.client().get("/keys.json").send().await.expect(200);
}

#[tokio::test]
async fn a_head_that_drips_is_a_408_within_its_deadline() {
    let upstream = Upstream::start(Behaviour::Echo).await;
    let listen = "request_head_timeout: 400ms";
    let gateway = Setup::new(&[upstream.address]).listen(listen).start().await;
    let mut wire = Wire::connect(gateway.http).await;
    // The second head on a connection has the same deadline as the first.
    wire.send("GET /api/things/1 HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    assert_eq!(wire.answer().await.status, 200);
    let started = Instant::now();
    let (mut reading, mut writing) = wire.stream.into_split();
    let drip = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let lines = "x-slow: 1\r\n".repeat(1000);
        for byte in format!("GET /api/things/2 HTTP/1.1\r\nhost: x\r\n{lines}").bytes() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if writing.write_all(&[byte]).await.is_err() {
                return;
            }
        }
    });
    let mut answer = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut reading, &mut answer)
        .await
        .ok();
    let took = started.elapsed();
    drip.abort();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("/problems/request-timeout"), "{answer}");
    assert!(
        answer.contains("\"instance\":\"/api/things/2\""),
        "{answer}"
    );
    assert!(answer.contains("Connection: close"), "{answer}");
    assert!(
        (Duration::from_millis(400)..Duration::from_secs(3)).contains(&took),
        "{took:?}"
    );
    assert_eq!(upstream.requests(), 1);
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed() {
    let listen = "request_head_timeout: 200ms, idle_timeout: 1s";
    let upstream = Upstream::start(Behaviour::Echo).await;
    let gateway = Setup::new(&[upstream.address]).listen(listen).start().await;
    let mut silent = Wire::connect(gateway.http).await;
    silent.is_closed().await;
    let mut idle = Wire::connect(gateway.http).await;
    idle.send("GET /api/things/1 HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    assert_eq!(idle.answer().await.status, 200);
    let since = Instant::now();
    idle.is_closed().await;
    // Longer than a head may take, because an idle connection has another deadline.
    assert!(
        since.elapsed() > Duration::from_millis(900),
        "{:?}",
        since.elapsed()
    );
}

#[tokio::test]
async fn a_body_that_stalls_is_a_408() {
    let upstream = Upstream::start(Behaviour::Continue).await;
    let gateway = start(&[upstream.address], "timeouts: {idle: 300ms}").await;
    for framing in ["content-length: 10", "transfer-encoding: chunked"] {
        let head = format!("POST /api/things/1 HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n5\r\n");
        let mut wire = Wire::connect(gateway.http).await;
        wire.send(head).await;
        let mut answer = wire.answer().await;
        if answer.status == 100 {
            answer = wire.answer().await;
        }
        answer.is_problem(Kind::RequestTimeout, "/api/things/1");
        wire.is_closed().await;
    }
}

#[tokio::test]
async fn a_body_over_the_cap_is_413_declared_or_chunked() {
    let upstream = Upstream::start(Behaviour::Continue).await;
    let gateway = start(&[upstream.address], "max_body: 1KiB").await;
    let head = "POST /api/things/1 HTTP/1.1\r\nhost: x\r\n";
    let body = "x".repeat(1025);
    let mut wire = Wire::connect(gateway.http).await;
    for _ in 0..2 {
        let declared = format!("{head}content-length: 1025\r\n\r\n{body}");
        wire.send(declared).await;
        let answer = wire.answer().await;
        let detail = answer.is_problem(Kind::PayloadTooLarge, "/api/things/1");
        assert!(detail.contains("1024 bytes"), "{detail}");
    }
    assert_eq!(upstream.requests(), 0);

    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n401\r\n{body}\r\n0\r\n\r\n");
    let mut wire = Wire::connect(gateway.http).await;
    wire.send(chunked).await;
    let mut answer = wire.answer().await;
    if answer.status == 100 {
        answer = wire.answer().await;
    }
    answer.is_problem(Kind::PayloadTooLarge, "/api/things/1");
    wire.is_closed().await;
    // A body of exactly the limit is accepted.
    let exact = format!("{head}content-length: 1024\r\n\r\n{}", "x".repeat(1024));
    let echo = Upstream::start(Behaviour::Echo).await;
    let gateway = start(&[echo.address], "max_body: 1KiB").await;
    let mut wire = Wire::connect(gateway.http).await;
    wire.send(exact).await;
    assert_eq!(wire.answer().await.status, 200);
}

/// Like many clients, this one reads the response only after it has sent everything.
#[tokio::test]
async fn a_413_arrives_although_the_client_goes_on_sending() {
    let upstream = Upstream::start(Behaviour::Continue).await;
    let gateway = start(&[upstream.address], "max_body: 1MiB").await;
    let mebibyte = vec![b'x'; 1 << 20];
    let head = "POST /api/things/1 HTTP/1.1\r\nhost: x\r\n";
    let mut declared = Wire::connect(gateway.http).await;
    declared
        .send(format!("{head}content-length: {}\r\n\r\n", 32 << 20))
        .await;
    let mut chunked = Wire::connect(gateway.http).await;
    chunked
        .send(format!("{head}transfer-encoding: chunked\r\n\r\n"))
        .await;
    for _ in 0..32 {
        declared.stream_all(&mebibyte).await;
        chunked.stream_all(b"100000\r\n").await;
        chunked.stream_all(&mebibyte).await;
        chunked.stream_all(b"\r\n").await;
    }
    for mut wire in [declared, chunked] {
        let mut answer = wire.answer().await;
        if answer.status == 100 {
            answer = wire.answer().await;
        }
        answer.is_problem(Kind::PayloadTooLarge, "/api/things/1");
    }
}

#[tokio::test]
async fn a_413_passes_an_nginx_that_does_not_buffer() {
    let upstream = Upstream::start(Behaviour::Continue).await;
    let gateway = start(&[upstream.address], "max_body: 1MiB").await;
    let nginx = Nginx::start(|port| {
        format!(
            "events {{}}\nhttp {{ access_log off; client_max_body_size 0; proxy_request_buffering off; proxy_http_version 1.1;\n\
             server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://{}; }} }} }}",
            gateway.http
        )
    })
    .await;
    for _ in 0..5 {
        let mut wire = Wire::connect(nginx.address()).await;
        wire.send(format!(
            "POST /api/things/1 HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
            16 << 20
        ))
        .await;
        wire.send(vec![b'x'; 16 << 20]).await;
        let answer = wire.answer().await;
        answer.is_problem(Kind::PayloadTooLarge, "/api/things/1");
    }
}

#[tokio::test]
async fn a_refusal_after_100_continue_is_still_answered() {
    let upstream = Upstream::start(Behaviour::Continue).await;
    let gateway = start(&[upstream.address], "max_body: 1KiB").await;
    let mut wire = Wire::connect(gateway.http).await;
    wire.send("POST /api/things/1 HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n").await;
    assert_eq!(wire.answer().await.status, 100);
    wire.send(format!("401\r\n{}\r\n0\r\n\r\n", "x".repeat(1025)))
        .await;
    let answer = wire.answer().await;
    answer.is_problem(Kind::PayloadTooLarge, "/api/things/1");
}

#[tokio::test]
async fn a_chunk_that_is_none_is_refused() {
    let upstream = Upstream::start(Behaviour::Continue).await;
    let gateway = start(&[upstream.address], "").await;
    for chunk in [
        "zz\r\n",
        "-1\r\nx\r\n",
        "fffffffffffffffff\r\n",
        "1\r\nxx\r\n",
    ] {
        let mut wire = Wire::connect(gateway.http).await;
        wire.send(format!(
            "POST /api/things/1 HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{chunk}"
        ))
        .await;
        let mut answer = wire.answer().await;
        if answer.status == 100 {
            answer = wire.answer().await;
        }
        answer.is_problem(Kind::MalformedRequest, "/api/things/1");
        wire.is_closed().await;
    }
}

#[tokio::test]
async fn heads_and_targets_that_a_worker_would_not_take_are_refused_here() {
    let upstream = Upstream::start(Behaviour::Echo).await;
    let gateway = start(&[upstream.address], "").await;
    let many: String = (0..81).map(|n| format!("x-{n}: 1\r\n")).collect();
    let large = format!("x-large: {}\r\n", "x".repeat(24 << 10));
    let endless = format!("x-large: {}", "x".repeat(64 << 10));
    let long = format!("/api/things/{}", "a".repeat(8 << 10));
    let longest = format!("/api/things/{}", "a".repeat(64 << 10));
    let cut = &long[..1024];
    for (target, lines, kind, instance) in [
        (
            "/api/things/1",
            &many,
            Kind::HeaderTooLarge,
            "/api/things/1",
        ),
        (
            "/api/things/1",
            &large,
            Kind::HeaderTooLarge,
            "/api/things/1",
        ),
        (
            "/api/things/1",
            &endless,
            Kind::HeaderTooLarge,
            "/api/things/1",
        ),
        (&long, &String::new(), Kind::UriTooLong, cut),
        (&longest, &String::new(), Kind::UriTooLong, cut),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nhost: x\r\n{lines}\r\n");
        let answer = refused(gateway.http, request).await;
        answer.is_problem(kind, instance);
    }
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn a_workers_own_refusals_pass_untouched() {
    let forbidden = "HTTP/1.1 403 Forbidden\r\ncontent-type: application/problem+json\r\ncontent-length: 3\r\n\r\n{ }";
    let unsupported = "HTTP/1.1 415 Unsupported Media Type\r\ncontent-type: application/problem+json\r\naccept: application/json\r\ncontent-length: 3\r\n\r\n{ }";
    for (said, status) in [(forbidden, 403), (unsupported, 415)] {
        let upstream = Upstream::start(Behaviour::Say(said)).await;
        let gateway = start(&[upstream.address], "").await;
        let reply = gateway.client().post("/api/things/1").send().await;
        assert_eq!(reply.status, status);
        assert_eq!(reply.text(), "{ }");
        assert_eq!(
            reply.header("content-type"),
            Some("application/problem+json")
        );
    }
}

#[tokio::test]
async fn an_http_1_0_client_reads_to_the_end_of_its_connection() {
    let upstream = Upstream::start(Behaviour::Echo).await;
    let gateway = start(&[upstream.address], "").await;
    let request = "GET /api/things/1 HTTP/1.0\r\nhost: x\r\n\r\n";
    let answer = String::from_utf8(raw(gateway.http, request).await).unwrap();
    assert!(answer.contains(" 200 "), "{answer}");
}

#[tokio::test]
async fn a_refused_head_request_has_no_body() {
    let upstream = Upstream::start(Behaviour::Echo).await;
    let gateway = start(&[upstream.address], "").await;
    let answer = raw(
        gateway.http,
        "HEAD /api//things HTTP/1.1\r\nhost: x\r\n\r\n",
    )
    .await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}
