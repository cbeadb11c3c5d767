//! Bodies stream in both directions, with constant memory and back-pressure. When one side breaks off,
//! the gateway breaks off the other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use testkit::eventually;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::gateway::{Gateway, Setup, start};
use crate::upstream::{Behaviour, Upstream};
use crate::wire::Wire;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
/// The most MiB by which a gateway may grow while a body of any size passes.
const FLAT: f64 = 16.0;
/// Bytes of one write. The content is checked in the same units.
const BLOCK: usize = 256 << 10;

/// The blocks of a body. No two are the same, and no block equals itself when shifted.
struct Blocks {
    block: Vec<u8>,
    n: u64,
}

impl Blocks {
    fn new() -> Self {
        let words = 0..(BLOCK / 4) as u32;
        let word = |word: u32| word.wrapping_mul(2_654_435_761).to_le_bytes();
        Self {
            block: words.flat_map(word).collect(),
            n: 0,
        }
    }

    fn next(&mut self) -> &[u8] {
        self.block[..8].copy_from_slice(&self.n.to_le_bytes());
        self.n += 1;
        &self.block
    }
}

/// Reads `length` bytes and checks each of them.
async fn read_blocks(stream: &mut (impl AsyncRead + Unpin), length: u64) {
    let mut expected = Blocks::new();
    let mut buffer = vec![0; BLOCK];
    for n in 0..length / BLOCK as u64 {
        stream.read_exact(&mut buffer).await.unwrap();
        assert!(buffer == expected.next(), "block {n} was changed");
    }
}

/// Removes the framing of a chunked body, up to the end of its last chunk.
async fn unchunk(stream: TcpStream) -> impl AsyncRead + Unpin {
    let (mut inner, outer) = tokio::io::duplex(BLOCK);
    tokio::spawn(async move {
        let mut stream = BufReader::with_capacity(BLOCK, stream);
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            // When the connection breaks, the body ends early.
            let Ok(size) = u64::from_str_radix(line.trim_end(), 16) else {
                return;
            };
            let mut chunk = (&mut stream).take(size);
            tokio::io::copy_buf(&mut chunk, &mut inner).await.unwrap();
            stream.read_line(&mut line).await.unwrap();
            if size == 0 {
                return;
            }
        }
    });
    outer
}

/// Reads a head byte by byte, so that nothing after it is consumed.
async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// An upstream that checks each body of `length` bytes sent by PUT, and answers each GET below `/down`
/// with such a body, in chunks.
struct Bulk {
    address: SocketAddr,
    /// Bytes of response bodies that it was able to write.
    written: Arc<AtomicU64>,
}

impl Bulk {
    async fn start(length: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let written = Arc::new(AtomicU64::new(0));
        let count = written.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, length, count.clone()));
            }
        });
        Self { address, written }
    }

    fn written(&self) -> u64 {
        self.written.load(Ordering::SeqCst)
    }
}

async fn converse(mut stream: TcpStream, length: u64, written: Arc<AtomicU64>) -> Option<()> {
    while let Some(head) = read_head(&mut stream).await {
        if head.starts_with("PUT") {
            read_blocks(&mut stream, length).await;
        }
        if !head.starts_with("GET /api/things/down") {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.ok()?;
            continue;
        }
        let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(answer).await.ok()?;
        let mut blocks = Blocks::new();
        for _ in 0..length / BLOCK as u64 {
            stream
                .write_all(format!("{BLOCK:x}\r\n").as_bytes())
                .await
                .ok()?;
            stream.write_all(blocks.next()).await.ok()?;
            stream.write_all(b"\r\n").await.ok()?;
            written.fetch_add(BLOCK as u64, Ordering::SeqCst);
        }
        stream.write_all(b"0\r\n\r\n").await.ok()?;
    }
    None
}

/// The peak memory of the gateway, in bytes.
fn peak(gateway: &Gateway) -> u64 {
    let path = format!("/proc/{}/status", gateway.process.pid());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() << 10
}

/// Prints the growth in memory, and fails if it was too much.
#[track_caller]
fn is_flat(what: &str, gateway: &Gateway, before: u64, started: Instant) {
    let grown = (peak(gateway) - before) as f64 / MIB as f64;
    let took = started.elapsed().as_secs_f64();
    eprintln!("{what}: {grown:.1} MiB more in {took:.1} s");
    assert!(grown < FLAT, "{what}: {grown:.1} MiB more");
}

/// A gateway that has served requests, so that its one-time allocations are done.
async fn warm(upstream: SocketAddr) -> Gateway {
    let gateway = start(&[upstream], "max_body: 2GiB").await;
    for _ in 0..10 {
        gateway
            .client()
            .get("/api/things/1")
            .send()
            .await
            .expect(200);
    }
    gateway
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_each_way_takes_no_memory() {
    let bulk = Bulk::start(GIB).await;
    let gateway = warm(bulk.address).await;
    let before = peak(&gateway);

    let started = Instant::now();
    let mut up = Wire::connect(gateway.http).await;
    let head = format!("PUT /api/things/up HTTP/1.1\r\nhost: x\r\ncontent-length: {GIB}\r\n\r\n");
    up.stream_all(head.as_bytes()).await;
    let mut blocks = Blocks::new();
    for _ in 0..GIB / BLOCK as u64 {
        up.stream_all(blocks.next()).await;
    }
    assert_eq!(up.answer().await.status, 200);
    is_flat("1 GiB up", &gateway, before, started);

    let started = Instant::now();
    let mut down = TcpStream::connect(gateway.http).await.unwrap();
    let request = b"GET /api/things/down HTTP/1.1\r\nhost: x\r\n\r\n";
    down.write_all(request).await.unwrap();
    let head = read_head(&mut down).await.unwrap();
    assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
    let mut body = unchunk(down).await;
    read_blocks(&mut body, GIB).await;
    assert_eq!(body.read(&mut [0]).await.unwrap(), 0, "more than was sent");
    is_flat("1 GiB down", &gateway, before, started);
}

/// The kernel's buffers along the way hold a few MiB. The gateway must not buffer more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_stops_the_upstream() {
    const LENGTH: u64 = 256 * MIB;
    let bulk = Bulk::start(LENGTH).await;
    let gateway = warm(bulk.address).await;
    let before = peak(&gateway);
    let started = Instant::now();
    let mut down = TcpStream::connect(gateway.http).await.unwrap();
    let request = b"GET /api/things/down HTTP/1.1\r\nhost: x\r\n\r\n";
    down.write_all(request).await.unwrap();
    read_head(&mut down).await.unwrap();

    // Waits until no progress was made for a second. Nobody reads, so there will be none.
    let (mut last, mut since) = (0, Instant::now());
    eventually(Duration::from_secs(20), async || {
        let written = bulk.written();
        if written != last {
            (last, since) = (written, Instant::now());
        }
        last > 0 && since.elapsed() > Duration::from_secs(1)
    })
    .await;
    assert!(last < LENGTH / 4, "{} MiB ahead of its reader", last / MIB);
    eprintln!("{} MiB ahead of a client that does not read", last / MIB);

    // Once the client reads, everything arrives.
    read_blocks(&mut unchunk(down).await, LENGTH).await;
    is_flat("a slow reader", &gateway, before, started);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_does_not_read_stops_the_client() {
    const LENGTH: u64 = 256 * MIB;
    let upstream = Upstream::start(Behaviour::Deaf).await;
    let gateway = warm(upstream.address).await;
    let before = peak(&gateway);
    let started = Instant::now();
    let mut up = TcpStream::connect(gateway.http).await.unwrap();
    let head =
        format!("PUT /api/things/up HTTP/1.1\r\nhost: x\r\ncontent-length: {LENGTH}\r\n\r\n");
    up.write_all(head.as_bytes()).await.unwrap();
    let mut blocks = Blocks::new();
    let mut taken = 0;
    // Stops after a second without progress. Nobody reads, so there will be none.
    let patience = Duration::from_secs(1);
    while let Ok(sent) = timeout(patience, up.write_all(blocks.next())).await {
        sent.unwrap();
        taken += BLOCK as u64;
    }
    assert!(taken < LENGTH / 4, "{} MiB taken", taken / MIB);
    eprintln!(
        "{} MiB taken for an upstream that does not read",
        taken / MIB
    );
    is_flat("a slow upstream", &gateway, before, started);
}

/// Pingora's own timeout of 30 s is for one write. The idle time is for any wait.
#[tokio::test]
async fn a_client_that_never_reads_is_given_up_after_the_idle_time() {
    let bulk = Bulk::start(256 * MIB).await;
    let listen = "idle_timeout: 1s";
    let gateway = Setup::new(&[bulk.address]).listen(listen).start().await;
    let mut down = TcpStream::connect(gateway.http).await.unwrap();
    let request = b"GET /api/things/down HTTP/1.1\r\nhost: x\r\n\r\n";
    down.write_all(request).await.unwrap();
    let in_flight = async |expected: u64| {
        let status = gateway.admin().get("/status").send().await.json();
        status["services"]["things"]["upstreams"][0]["in_flight"] == expected
    };
    eventually(Duration::from_secs(5), async || in_flight(1).await).await;
    eventually(Duration::from_secs(15), async || in_flight(0).await).await;
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_request_upstream() {
    let get = "GET /api/things/1 HTTP/1.1\r\nhost: x\r\n\r\n";
    let half = "POST /api/things/1 HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf";
    for (behaviour, request) in [
        (Behaviour::Silent, get),
        (Behaviour::Trickle, get),
        (Behaviour::Continue, half),
    ] {
        let upstream = Upstream::start(behaviour).await;
        let gateway = start(&[upstream.address], "").await;
        let mut client = Wire::connect(gateway.http).await;
        client.send(request).await;
        eventually(Duration::from_secs(5), async || upstream.open() == 1).await;
        drop(client);
        eventually(Duration::from_secs(5), async || upstream.open() == 0).await;
        assert_eq!(upstream.requests(), 1, "{behaviour:?} was asked again");
        // The replica no longer counts the request.
        eventually(Duration::from_secs(5), async || {
            let status = gateway.admin().get("/status").send().await.json();
            status["services"]["things"]["upstreams"][0]["in_flight"] == 0
        })
        .await;
    }
}

#[tokio::test]
async fn an_upstream_that_goes_away_in_its_answer_ends_the_clients() {
    let upstream = Upstream::start(Behaviour::BreakOffLate).await;
    let gateway = start(&[upstream.address], "").await;
    let mut client = Wire::connect(gateway.http).await;
    client
        .send("GET /api/things/1 HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status, 200);
    let rest = String::from_utf8(client.rest().await).unwrap();
    // What arrived is forwarded, without the last chunk that would make it look whole.
    assert_eq!(rest, "8\r\ndata: 1\n\r\n");
    assert_eq!(upstream.requests(), 1);
}
