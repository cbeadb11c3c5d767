//! The drain of a listener, as its clients see it: no request that was sent is lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use contract::problem::Problem;
use http::Method;
use runtime::readiness::{Dependency, Readiness};
use runtime::serve::{Limits, serve};
use runtime::supervise::CancellationToken;
use testkit::{Client, eventually, gateway_keys};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use web::{Anybody, Reply, Request, Routes, Service};

const POST: &[u8] = b"POST /things HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";

struct Always;

#[async_trait]
impl Readiness for Always {
    async fn dependencies(&self) -> Vec<Dependency> {
        Vec::new()
    }
}

async fn thing(_: Arc<()>, _: Request<Anybody>) -> Result<Reply, Problem> {
    Ok(Reply::ok(&"done"))
}

struct Server {
    address: SocketAddr,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

async fn start(max_connections: usize, lame_duck: Duration) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = Routes::new().anybody(Method::POST, "/things", thing);
    let service = Service::new(
        "test",
        routes,
        Arc::new(()),
        gateway_keys(),
        Always,
        prometheus::Registry::new(),
    );
    let limits = Limits {
        max_connections,
        settle: Duration::ZERO,
        lame_duck,
        grace: Duration::from_secs(5),
    };
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(serve(
        listener,
        service,
        limits,
        shutdown.clone(),
        CancellationToken::new(),
    ));
    Server {
        address,
        shutdown,
        running,
    }
}

/// The next answer, in lower case.
async fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\"done\"") {
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read_buf(&mut bytes));
        assert!(
            read.await.unwrap().unwrap() > 0,
            "{}",
            String::from_utf8_lossy(&bytes)
        );
    }
    String::from_utf8(bytes).unwrap().to_lowercase()
}

#[tokio::test]
async fn what_waits_in_the_queue_when_the_listener_closes_is_served() {
    let server = start(1, Duration::from_millis(1)).await;
    // It has the only permit, so the others wait in the kernel's backlog.
    let mut first = TcpStream::connect(server.address).await.unwrap();
    first.write_all(POST).await.unwrap();
    answer(&mut first).await;
    let mut waiting = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(POST).await.unwrap();
        waiting.push(stream);
    }
    server.shutdown.cancel();
    for mut stream in waiting {
        let answer = answer(&mut stream).await;
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    }
    server.running.await.unwrap();
}

#[tokio::test]
async fn a_kept_connection_is_served_once_more_after_the_listener_closed() {
    let server = start(100, Duration::from_millis(500)).await;
    let mut kept = TcpStream::connect(server.address).await.unwrap();
    kept.write_all(POST).await.unwrap();
    assert!(!answer(&mut kept).await.contains("connection: close"));
    let operations = Client::new(format!("http://{}", server.address));
    server.shutdown.cancel();
    operations
        .get("/readyz")
        .header("connection", "close")
        .send()
        .await
        .expect(503);
    eventually(Duration::from_secs(5), async || {
        TcpStream::connect(server.address).await.is_err()
    })
    .await;
    kept.write_all(POST).await.unwrap();
    assert!(answer(&mut kept).await.contains("connection: close"));
    let mut rest = Vec::new();
    kept.read_to_end(&mut rest).await.unwrap();
    server.running.await.unwrap();
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_the_end() {
    let server = start(100, Duration::from_millis(1)).await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(POST).await.unwrap();
    answer(&mut idle).await;
    server.shutdown.cancel();
    // The grace is 5 s.
    let ended = tokio::time::timeout(Duration::from_secs(3), server.running);
    ended.await.expect("in time").unwrap();
}
