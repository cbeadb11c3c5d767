//! What the gateway does when upstreams fail, and what it forwards unchanged.

use std::time::{Duration, Instant};

use contract::problem::Kind;
use serde_json::Value;
use testkit::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::gateway::start;
use crate::upstream::{Behaviour, Upstream, nobody, unreachable};
use crate::wire::Wire;

#[tokio::test]
async fn a_replica_that_breaks_off_fails_no_get() {
    let broken = Upstream::start(Behaviour::BreakOff).await;
    let good = Upstream::start(Behaviour::Echo).await;
    let gateway = start(&[broken.address, good.address], "").await;
    for _ in 0..20 {
        gateway
            .client()
            .get("/api/things/1")
            .send()
            .await
            .expect(200);
    }
    assert!(broken.requests() > 0, "the broken replica was never asked");
}

#[tokio::test]
async fn a_body_that_is_sent_twice_is_counted_once() {
    let broken = Upstream::start(Behaviour::BreakOff).await;
    let good = Upstream::start(Behaviour::Echo).await;
    let gateway = start(&[broken.address, good.address], "max_body: 64KiB").await;
    for _ in 0..4 {
        let body = "x".repeat(40 << 10);
        gateway
            .client()
            .put("/api/things/1")
            .body(body)
            .send()
            .await
            .expect(200);
    }
    assert!(broken.requests() > 0, "the broken replica was never asked");
}

#[tokio::test]
async fn a_post_that_may_have_arrived_is_not_sent_again() {
    let broken = Upstream::start(Behaviour::BreakOff).await;
    let gateway = start(&[broken.address], "").await;
    let reply = gateway
        .client()
        .post("/api/things/1")
        .body("x")
        .send()
        .await;
    assert_eq!(
        reply.expect(502).json()["type"],
        "/problems/upstream-failed"
    );
    assert_eq!(broken.requests(), 1);
}

#[tokio::test]
async fn a_post_goes_to_another_replica_when_the_first_cannot_be_reached() {
    let good = Upstream::start(Behaviour::Echo).await;
    let gateway = start(&[nobody().await, good.address], "").await;
    for _ in 0..6 {
        gateway
            .client()
            .post("/api/things/1")
            .body("x")
            .send()
            .await
            .expect(200);
    }
    assert_eq!(good.requests(), 6);
}

#[tokio::test]
async fn a_body_that_is_too_large_to_be_kept_is_not_sent_again() {
    let broken = Upstream::start(Behaviour::BreakOff).await;
    let other = Upstream::start(Behaviour::BreakOff).await;
    let gateway = start(&[broken.address, other.address], "").await;
    let reply = gateway
        .client()
        .put("/api/things/1")
        .body("x".repeat(100 << 10))
        .send()
        .await
        .expect(502);
    assert_eq!(reply.json()["type"], "/problems/upstream-failed");
    assert_eq!(broken.requests() + other.requests(), 1);
}

#[tokio::test]
async fn a_replica_that_dies_fails_no_get() {
    let good = Upstream::start(Behaviour::Echo).await;
    let dying = Upstream::start(Behaviour::Echo).await;
    let gateway = start(&[good.address, dying.address], "").await;
    let client = gateway.client();
    let ask = async || client.get("/api/things/1").send().await.expect(200);
    for _ in 0..10 {
        ask().await;
    }
    assert!(dying.requests() > 0, "the dying replica was never asked");
    // Now its pooled connections break, and new ones are refused.
    dying.kill();
    let burst = (0..50).map(|_| ask());
    futures_util::future::join_all(burst).await;
}

#[tokio::test]
async fn a_replica_that_takes_no_connection_is_passed_over_or_a_504() {
    let (dead, _queue) = unreachable().await;
    let good = Upstream::start(Behaviour::Echo).await;
    let settings = "timeouts: {connect: 200ms}";
    let gateway = start(&[dead, good.address], settings).await;
    for _ in 0..4 {
        let client = gateway.client();
        client.get("/api/things/1").send().await.expect(200);
        let posted = client.post("/api/things/1").body("x").send();
        posted.await.expect(200);
    }
    let alone = start(&[dead], settings).await;
    let started = Instant::now();
    let mut wire = Wire::connect(alone.http).await;
    wire.send("GET /api/things/1 HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    let answer = wire.answer().await;
    answer.is_problem(Kind::UpstreamTimeout, "/api/things/1");
    let took = started.elapsed();
    assert!((200..5000).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test]
async fn an_upstream_that_takes_no_body_is_a_504() {
    let deaf = Upstream::start(Behaviour::Deaf).await;
    let settings = "timeouts: {first_byte: 300ms, idle: 300ms}\n    max_body: 1GiB";
    let gateway = start(&[deaf.address], settings).await;
    let mut wire = Wire::connect(gateway.http).await;
    wire.send(format!(
        "PUT /api/things/1 HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        64 << 20
    ))
    .await;
    let (mut reading, mut writing) = wire.stream.into_split();
    let sending = tokio::spawn(async move {
        let mebibyte = vec![b'x'; 1 << 20];
        while writing.write_all(&mebibyte).await.is_ok() {}
    });
    let mut answer = vec![0; 12];
    reading.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 504");
    sending.abort();
    assert_eq!(deaf.requests(), 1, "a slow request must not be repeated");
}

#[tokio::test]
async fn a_replica_that_fails_its_health_checks_is_out() {
    let good = Upstream::start(Behaviour::Echo).await;
    let dead = nobody().await;
    let gateway = start(
        &[dead, good.address],
        "health: {path: /readyz, every: 50ms}",
    )
    .await;
    eventually(Duration::from_secs(5), async || {
        let status = gateway.admin().get("/status").send().await.json();
        let upstreams = status["services"]["things"]["upstreams"]
            .as_array()
            .cloned()
            .unwrap();
        let is_dead = |upstream: &Value| upstream["address"] == dead.to_string();
        upstreams
            .iter()
            .any(|u| is_dead(u) && u["healthy"] == false)
            && upstreams
                .iter()
                .any(|u| !is_dead(u) && u["healthy"] == true)
    })
    .await;
}

#[tokio::test]
async fn a_service_without_a_replica_answers_503_with_retry_after() {
    // First no replica that can be reached, then none that is healthy.
    let checked_late = "health: {path: /readyz, every: 1h}";
    let checked = "health: {path: /readyz, every: 50ms}";
    for (settings, why) in [
        (checked_late, "cannot be reached"),
        (checked, "no replica of it is healthy"),
    ] {
        let gateway = start(&[nobody().await], settings).await;
        if settings == checked {
            eventually(Duration::from_secs(5), async || {
                let status = gateway.admin().get("/status").send().await.json();
                status["services"]["things"]["upstreams"][0]["healthy"] == false
            })
            .await;
        }
        let mut wire = Wire::connect(gateway.http).await;
        wire.send("GET /api/things/1 HTTP/1.1\r\nhost: x\r\n\r\n")
            .await;
        let answer = wire.answer().await;
        let detail = answer.is_problem(Kind::ServiceUnavailable, "/api/things/1");
        assert!(detail.contains(why), "{detail}");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
}

#[tokio::test]
async fn a_silent_upstream_is_a_504_after_its_first_byte_time() {
    let silent = Upstream::start(Behaviour::Silent).await;
    let gateway = start(
        &[silent.address],
        "timeouts: {first_byte: 200ms, idle: 300ms}",
    )
    .await;
    let started = Instant::now();
    let reply = gateway
        .client()
        .get("/api/things/1")
        .send()
        .await
        .expect(504);
    assert_eq!(reply.json()["type"], "/problems/upstream-timeout");
    assert!(started.elapsed() >= Duration::from_millis(200));
    assert_eq!(silent.requests(), 1, "a slow request must not be repeated");
}

#[tokio::test]
async fn an_answer_that_stalls_is_broken_off_after_its_idle_time() {
    let stalling = Upstream::start(Behaviour::Trickle).await;
    let settings = "timeouts: {first_byte: 300ms, idle: 300ms}";
    let gateway = start(&[stalling.address], settings).await;
    let mut wire = Wire::connect(gateway.http).await;
    wire.send("GET /api/things/1 HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    assert_eq!(wire.answer().await.status, 200);
    // Without the last chunk, so that nobody takes it for the whole response.
    assert_eq!(wire.rest().await, b"8\r\ndata: 1\n\r\n");
    eventually(Duration::from_secs(5), async || stalling.open() == 0).await;
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_a_502() {
    for said in [
        "what is this?\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx-a\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    ] {
        let upstream = Upstream::start(Behaviour::Say(said)).await;
        let gateway = start(&[upstream.address], "").await;
        let mut wire = Wire::connect(gateway.http).await;
        wire.send("POST /api/things/1 HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx")
            .await;
        let answer = wire.answer().await;
        answer.is_problem(Kind::UpstreamFailed, "/api/things/1");
        assert_eq!(upstream.requests(), 1, "{said:?}");
    }
}

#[tokio::test]
async fn requests_over_the_services_cap_answer_503() {
    let silent = Upstream::start(Behaviour::Silent).await;
    let gateway = start(&[silent.address], "max_in_flight: 1").await;
    let client = gateway.client();
    let held = tokio::spawn(async move { client.get("/api/things/1").try_send().await });
    eventually(Duration::from_secs(5), async || silent.requests() == 1).await;
    let reply = gateway
        .client()
        .get("/api/things/2")
        .send()
        .await
        .expect(503);
    assert_eq!(reply.header("retry-after"), Some("1"));
    held.abort();
}

#[tokio::test]
async fn server_sent_events_pass_at_once() {
    let upstream = Upstream::start(Behaviour::Trickle).await;
    let gateway = start(&[upstream.address], "").await;
    let mut stream = TcpStream::connect(gateway.http).await.unwrap();
    let request = b"GET /api/things/stream HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(request).await.unwrap();
    read_until(&mut stream, "data: 1").await;
}

#[tokio::test]
async fn a_web_socket_passes_both_ways() {
    let upstream = Upstream::start(Behaviour::Upgrade).await;
    let gateway = start(&[upstream.address], "").await;
    let mut stream = TcpStream::connect(gateway.http).await.unwrap();
    let request = b"GET /api/things/socket HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request).await.unwrap();
    read_until(&mut stream, "101 Switching Protocols").await;
    stream.write_all(b"hello").await.unwrap();
    read_until(&mut stream, "hello").await;
}

/// Reads until `text` has arrived; panics after five seconds.
async fn read_until(stream: &mut TcpStream, text: &str) {
    let mut seen = String::new();
    let read = async {
        while !seen.contains(text) {
            let mut buffer = [0; 1024];
            let n = stream.read(&mut buffer).await.unwrap();
            assert!(n > 0, "closed after {seen:?} while waiting for {text:?}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    };
    tokio::time::timeout(Duration::from_secs(5), read)
        .await
        .expect(text);
}
