//! Upstreams that write raw bytes, so that they can misbehave.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// What an upstream does with a request. Health checks are always answered with 200.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Behaviour {
    /// Answers 200 with the request as its body: the head, and a chunked body with its framing.
    Echo,
    /// Answers with exactly these bytes.
    Say(&'static str),
    /// Reads the head and closes.
    BreakOff,
    /// Reads the head and never answers.
    Silent,
    /// Answers GET. Of any other request it reads only the head.
    Deaf,
    /// Asks for the body and reads it until the connection closes.
    Continue,
    /// Sends one chunk at once and then closes, in the middle of the response.
    BreakOffLate,
    /// Switches protocols and echoes every byte.
    Upgrade,
    /// Sends one chunk at once and then nothing.
    Trickle,
}

pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    counts: Arc<Counts>,
    running: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Counts {
    requests: AtomicUsize,
    open: AtomicUsize,
}

impl Upstream {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let shared = counts.clone();
        let running = tokio::spawn(async move {
            let mut conversations = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                conversations.spawn(converse(stream, behaviour, shared.clone()));
            }
        });
        Self {
            address,
            counts,
            running,
        }
    }

    /// Closes every connection and accepts no more.
    pub(crate) fn kill(&self) {
        self.running.abort();
    }

    /// Requests of which any bytes arrived, without health checks.
    pub(crate) fn requests(&self) -> usize {
        self.counts.requests.load(Ordering::SeqCst)
    }

    /// Requests that are being handled.
    pub(crate) fn open(&self) -> usize {
        self.counts.open.load(Ordering::SeqCst)
    }
}

/// An address at which nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    let port = testkit::free_port();
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// An address that answers no handshake, because its backlog is full, for as long as the second value
/// is kept.
pub(crate) async fn unreachable() -> (SocketAddr, (TcpListener, Vec<TcpStream>)) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    let patience = Duration::from_millis(300);
    while let Ok(connected) = tokio::time::timeout(patience, TcpStream::connect(address)).await {
        waiting.push(connected.unwrap());
    }
    (address, (listener, waiting))
}

async fn converse(mut stream: TcpStream, behaviour: Behaviour, counts: Arc<Counts>) {
    while let Some(request) = read_request(&mut stream, behaviour, &counts).await {
        if request.starts_with("GET /readyz ") {
            if respond(&mut stream, "ready").await.is_err() {
                return;
            }
            continue;
        }
        counts.open.fetch_add(1, Ordering::SeqCst);
        let alive = act(&mut stream, behaviour, &request).await;
        counts.open.fetch_sub(1, Ordering::SeqCst);
        if !alive {
            return;
        }
    }
}

/// True if the connection can take another request.
async fn act(stream: &mut TcpStream, behaviour: Behaviour, request: &str) -> bool {
    match behaviour {
        Behaviour::Echo => respond(stream, request).await.is_ok(),
        Behaviour::Say(bytes) => stream.write_all(bytes.as_bytes()).await.is_ok(),
        Behaviour::BreakOff => false,
        Behaviour::Silent => until_closed(stream).await,
        Behaviour::Deaf if request.starts_with("GET ") => respond(stream, request).await.is_ok(),
        Behaviour::Deaf => std::future::pending().await,
        Behaviour::Continue => {
            let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
            stream.write_all(go_on).await.unwrap();
            until_closed(stream).await
        }
        Behaviour::BreakOffLate => {
            stream.write_all(FIRST_CHUNK).await.unwrap();
            false
        }
        Behaviour::Upgrade => {
            // Simulates the delay of a network. Pingora 0.9.1 closes a tunnel if the 101 arrives before
            // it has forwarded the request's empty body (cloudflare/pingora#946).
            tokio::time::sleep(Duration::from_millis(100)).await;
            let switch = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
            stream.write_all(switch).await.unwrap();
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await.ok();
            false
        }
        Behaviour::Trickle => {
            stream.write_all(FIRST_CHUNK).await.unwrap();
            until_closed(stream).await
        }
    }
}

const FIRST_CHUNK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n8\r\ndata: 1\n\r\n";

/// Reads and discards until the connection is closed.
async fn until_closed(stream: &mut TcpStream) -> bool {
    let copied = tokio::io::copy(stream, &mut tokio::io::sink()).await;
    copied.ok();
    false
}

async fn respond(stream: &mut TcpStream, body: &str) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await
}

/// The next request: its head, and its body if that is chunked. A body of declared length is read and
/// discarded. Behaviours that act before the body arrives leave it unread.
async fn read_request(
    stream: &mut TcpStream,
    behaviour: Behaviour,
    counts: &Counts,
) -> Option<String> {
    let probe = b"GET /readyz ";
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.ok()?);
        if bytes.len() == probe.len() && bytes != probe {
            counts.requests.fetch_add(1, Ordering::SeqCst);
        }
    }
    let head = String::from_utf8(bytes.clone()).ok()?.to_ascii_lowercase();
    let reads_bodies = match behaviour {
        Behaviour::Echo | Behaviour::Say(_) | Behaviour::BreakOff | Behaviour::BreakOffLate => true,
        Behaviour::Silent
        | Behaviour::Deaf
        | Behaviour::Continue
        | Behaviour::Upgrade
        | Behaviour::Trickle => false,
    };
    if reads_bodies && head.contains("transfer-encoding: chunked") {
        let whole = |bytes: &[u8]| {
            let body = String::from_utf8_lossy(&bytes[head.len()..]).into_owned();
            (body.starts_with("0\r\n") || body.contains("\r\n0\r\n")) && body.ends_with("\r\n\r\n")
        };
        while !whole(&bytes) {
            bytes.push(stream.read_u8().await.ok()?);
        }
    }
    if reads_bodies {
        let length = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| *name == "content-length")
            .and_then(|(_, value)| value.trim().parse::<u64>().ok());
        let mut body = stream.take(length.unwrap_or(0));
        tokio::io::copy(&mut body, &mut tokio::io::sink())
            .await
            .ok()?;
    }
    String::from_utf8(bytes).ok()
}
