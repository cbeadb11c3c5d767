//! Starting while every dependency is away, and stopping without losing a request.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use runtime::supervise::CancellationToken;
use serde_json::{Value, json};
use testkit::{ChaosProxy, Client, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::edge::edge;
use crate::gateway::{Gateway, Setup, start};
use crate::upstream::{Behaviour, Upstream, nobody};

const JWKS: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 120\r\n\r\n\
    {\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"alg\":\"EdDSA\",\"kid\":\"k1\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}      ";

/// How long the gateway may take to serve after the network is back.
const BACK: Duration = Duration::from_secs(5);

/// A gateway with its keys, upstream and Redis at these addresses.
fn setup(keys: SocketAddr, upstream: SocketAddr, redis: SocketAddr) -> Setup {
    let top = format!(
        "redis: {{url: \"redis://{redis}\", deadline: 20ms}}\n\
         limits: {{policies: {{address: {{key: address, rate: 50/s, burst: 100}}}}}}"
    );
    Setup::new(&[upstream])
        .keys(&format!(
            "jwks_url: \"http://{keys}/jwks.json\", algorithms: [EdDSA]"
        ))
        .service("limits: {anonymous: [address]}")
        .top(&top)
}

/// A token like those of our issuer, but with an invalid signature.
fn unverifiable() -> String {
    let now = jiff::Timestamp::now().as_second();
    let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(json!({"alg": "EdDSA", "kid": "k1", "typ": "at+jwt"}));
    let claims = part(json!({
        "iss": "sluice", "aud": "sluice-api", "sub": "alice", "sid": "s1",
        "iat": now, "nbf": now, "exp": now + 600, "jti": "t1",
    }));
    format!("{header}.{claims}.{}", "A".repeat(86))
}

async fn is_live(gateway: &Gateway) -> bool {
    let reply = gateway.admin().get("/livez").try_send().await;
    reply.is_ok_and(|reply| reply.status == 200)
}

async fn is_ready(gateway: &Gateway) -> bool {
    gateway.admin().get("/readyz").send().await.status == 200
}

#[tokio::test]
async fn with_everything_away_a_gateway_lives_refuses_and_is_there_5_s_after_the_rest() {
    let (keys, upstream) = (
        Upstream::start(Behaviour::Say(JWKS)).await,
        Upstream::start(Behaviour::Echo).await,
    );
    let mut keys = ChaosProxy::start(keys.address).await;
    let mut upstream = ChaosProxy::start(upstream.address).await;
    keys.refuse().await;
    upstream.refuse().await;
    let setup = setup(keys.address(), upstream.address(), nobody().await);
    let mut gateway = setup.start_unready().await;
    eventually(BACK, async || is_live(&gateway).await).await;

    assert!(!is_ready(&gateway).await);
    let refused = gateway.client().get("/api/things/1").send().await;
    let problem = refused.clone().expect(503).json();
    assert_eq!(problem["type"], "/problems/service-unavailable");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    let bearer = gateway.client();
    let bearer = bearer.patch("/api/things/1").bearer(&unverifiable());
    let problem = bearer.send().await.expect(503).json();
    assert_eq!(problem["type"], "/problems/service-unavailable");
    assert!(gateway.process.is_running());

    keys.restore().await;
    upstream.restore().await;
    let back = Instant::now();
    eventually(BACK, async || {
        let reply = gateway.client().get("/api/things/1").send().await;
        reply.status == 200 && is_ready(&gateway).await
    })
    .await;
    eprintln!("the gateway was back after {:?}", back.elapsed());
    // Redis is still away: the gateway enforces its share of the limit, and is ready all the same.
    let reply = gateway.client().get("/api/things/1").send().await;
    assert!(reply.header("ratelimit").is_some(), "{reply:?}");
}

#[tokio::test]
async fn with_everything_away_a_gateway_ends_when_it_is_told_to() {
    let mut gateway = setup(nobody().await, nobody().await, nobody().await)
        .start_unready()
        .await;
    eventually(BACK, async || is_live(&gateway).await).await;
    let ended = gateway.process.terminate(Duration::from_secs(5)).await;
    assert!(ended.success(), "{}", gateway.process.log());
}

#[tokio::test]
async fn a_gateway_that_is_told_to_end_as_soon_as_it_listens_ends_in_order() {
    for _ in 0..3 {
        let mut gateway = setup(nobody().await, nobody().await, nobody().await).launch();
        while TcpStream::connect(gateway.http).await.is_err() {
            tokio::task::yield_now().await;
        }
        let ended = gateway.process.terminate(Duration::from_secs(10)).await;
        assert!(ended.success(), "{ended}: {}", gateway.process.log());
    }
}

#[tokio::test]
async fn a_second_signal_ends_a_gateway_that_still_waits_for_a_request() {
    let upstream = Upstream::start(Behaviour::Silent).await;
    let mut gateway = start(&[upstream.address], "").await;
    let mut stream = TcpStream::connect(gateway.http).await.unwrap();
    let head = b"GET /api/things/1 HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(head).await.unwrap();
    eventually(BACK, async || upstream.requests() == 1).await;
    gateway.process.sigterm();
    eventually(BACK, async || gateway.process.log().contains("draining")).await;
    // The grace of this gateway is 10 s.
    let ended = gateway.process.terminate(Duration::from_secs(5)).await;
    assert_eq!(ended.code(), Some(130), "{}", gateway.process.log());
}

async fn said(mut stream: TcpStream) -> String {
    let mut said = String::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut said));
    read.await.unwrap().unwrap();
    said
}

#[tokio::test]
async fn connections_that_wait_in_the_queue_when_the_gateway_ends_are_served() {
    let upstream = Upstream::start(Behaviour::Echo).await;
    let mut gateway = start(&[upstream.address], "").await;
    gateway.process.sigstop();
    let mut waiting = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(gateway.http).await.unwrap();
        let head = b"POST /api/things/1 HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";
        stream.write_all(head).await.unwrap();
        waiting.push(stream);
    }
    gateway.process.sigterm();
    gateway.process.sigcont();
    for stream in waiting {
        let said = said(stream).await;
        assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
        assert!(
            said.to_lowercase().contains("\r\nconnection: close\r\n"),
            "{said}"
        );
    }
    assert!(
        gateway
            .process
            .wait(Duration::from_secs(10))
            .await
            .success()
    );
}

#[tokio::test]
async fn an_event_stream_that_its_client_resumes_does_not_hold_up_the_end() {
    let upstream = Upstream::start(Behaviour::Trickle).await;
    let mut gateway = start(&[upstream.address], "").await;
    let mut stream = TcpStream::connect(gateway.http).await.unwrap();
    let head = b"GET /api/things/stream HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut first = Vec::new();
    while !first.windows(7).any(|bytes| bytes == b"data: 1") {
        assert!(stream.read_buf(&mut first).await.unwrap() > 0);
    }
    // The grace of this gateway is 10 s.
    let ended = gateway.process.terminate(Duration::from_secs(5)).await;
    assert!(ended.success(), "{}", gateway.process.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_nginx_no_post_fails_while_one_gateway_after_the_other_ends_and_comes_back() {
    let upstream = Upstream::start(Behaviour::Echo).await;
    let mut gateways = [
        start(&[upstream.address], "").await,
        start(&[upstream.address], "").await,
    ];
    let nginx = edge(&[gateways[0].http, gateways[1].http]).await;
    let stop = CancellationToken::new();
    let clients: Vec<_> = (0..8)
        .map(|_| tokio::spawn(post(Client::new(nginx.url()), stop.clone())))
        .collect();
    for turn in 0..6 {
        let gateway = &mut gateways[turn % 2];
        let ended = gateway.process.terminate(Duration::from_secs(10)).await;
        assert!(ended.success(), "{}", gateway.process.log());
        gateway.process.start_again();
        let admin = gateway.admin();
        eventually(BACK, async || {
            let reply = admin.get("/readyz").try_send().await;
            reply.is_ok_and(|reply| reply.status == 200)
        })
        .await;
    }
    stop.cancel();
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
}

/// Posts until `stop`. Panics if a response is not 200 or is missing.
async fn post(client: Client, stop: CancellationToken) -> usize {
    let mut answered = 0;
    while !stop.is_cancelled() {
        let request = client.post("/api/things/1").body("{}");
        request.send().await.expect(200);
        answered += 1;
    }
    answered
}
