//! Upstreams that speak raw bytes, so that they can misbehave.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What an upstream does with a request (health checks are always answered with 200).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Manner {
    /// Answers 200 with the request's head as its body.
    Echo,
    /// Reads the head and closes.
    BreakOff,
    /// Reads the head and says nothing.
    Silent,
    /// Asks for the body and reads it for ever.
    Continue,
    /// Answers what is no HTTP.
    Garbage,
    /// Switches protocols and echoes every byte.
    Upgrade,
    /// Sends one chunk at once and then nothing.
    Trickle,
}

pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Upstream {
    pub(crate) async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let count = requests.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, manner, count.clone()));
            }
        });
        Self { address, requests }
    }

    /// Requests seen, health checks not counted.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// An address at which nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    let port = shared::testing::free_port();
    SocketAddr::from(([127, 0, 0, 1], port))
}

async fn converse(mut stream: TcpStream, manner: Manner, count: Arc<AtomicUsize>) {
    while let Some(head) = read_head(&mut stream).await {
        if head.starts_with("GET /readyz ") {
            if respond(&mut stream, "ready").await.is_err() {
                return;
            }
            continue;
        }
        count.fetch_add(1, Ordering::SeqCst);
        let alive = match manner {
            Manner::Echo => respond(&mut stream, &head).await.is_ok(),
            Manner::BreakOff => false,
            Manner::Silent => {
                std::future::pending::<()>().await;
                false
            }
            Manner::Continue => {
                stream
                    .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                    .await
                    .unwrap();
                tokio::io::copy(&mut stream, &mut tokio::io::sink())
                    .await
                    .ok();
                false
            }
            Manner::Garbage => {
                stream.write_all(b"what is this?\r\n\r\n").await.unwrap();
                false
            }
            Manner::Upgrade => {
                // As far away as a network: Pingora 0.9.1 ends a tunnel whose 101 arrives before it
                // has passed on the request's empty body (cloudflare/pingora#946).
                tokio::time::sleep(Duration::from_millis(100)).await;
                let switch = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
                stream.write_all(switch).await.unwrap();
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await.ok();
                false
            }
            Manner::Trickle => {
                let first = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n8\r\ndata: 1\n\r\n";
                stream.write_all(first).await.unwrap();
                std::future::pending::<()>().await;
                false
            }
        };
        if !alive {
            return;
        }
    }
}

async fn respond(stream: &mut TcpStream, body: &str) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await
}

/// The next request's head; the body of a declared length is read and dropped.
async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<u64>().ok())
        .unwrap_or(0);
    tokio::io::copy(&mut stream.take(length), &mut tokio::io::sink())
        .await
        .ok()?;
    Some(head)
}
