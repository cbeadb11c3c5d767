//! Signals that a gateway receives while it serves.

use std::time::Duration;

use testkit::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::gateway::start;
use crate::upstream::{Behaviour, Upstream};

#[tokio::test]
async fn a_request_that_runs_when_the_gateway_is_told_to_stop_is_finished() {
    let upstream = Upstream::start(Behaviour::Echo).await;
    let mut gateway = start(&[upstream.address], "").await;
    let mut stream = TcpStream::connect(gateway.http).await.unwrap();
    let head = b"POST /api/things/1 HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{";
    stream.write_all(head).await.unwrap();
    let admin = gateway.admin();
    // When the replica counts the request, the gateway has read the head and picked the replica.
    eventually(Duration::from_secs(5), async || {
        let status = admin.get("/status").send().await.json();
        status["services"]["things"]["upstreams"][0]["in_flight"] == 1
    })
    .await;
    let ended =
        tokio::spawn(async move { gateway.process.terminate(Duration::from_secs(10)).await });
    eventually(Duration::from_secs(5), async || {
        admin.get("/readyz").send().await.status == 503
    })
    .await;
    stream.write_all(b"}").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(ended.await.unwrap().success());
}

#[tokio::test]
async fn a_hangup_ends_nothing() {
    let upstream = Upstream::start(Behaviour::Echo).await;
    let mut gateway = start(&[upstream.address], "").await;
    gateway.process.sighup();
    eventually(Duration::from_secs(5), async || {
        gateway.process.log().contains("restart to change it")
    })
    .await;
    let reply = gateway.client().get("/api/things/1").send().await;
    reply.expect(200);
}
