//! The fault proxy, in front of an echo server.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use testkit::ChaosProxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const MOMENT: Duration = Duration::from_millis(200);

async fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await.ok();
            });
        }
    });
    address
}

async fn proxy() -> (ChaosProxy, TcpStream) {
    let mut proxy = ChaosProxy::start(echo_server().await).await;
    proxy.restore().await;
    let stream = TcpStream::connect(proxy.address()).await.unwrap();
    (proxy, stream)
}

async fn say(stream: &mut TcpStream, words: &str) -> std::io::Result<String> {
    stream.write_all(words.as_bytes()).await?;
    let mut reply = vec![0; words.len()];
    stream.read_exact(&mut reply).await?;
    Ok(String::from_utf8(reply).unwrap())
}

fn is_reset(result: std::io::Result<String>) -> bool {
    result.is_err_and(|error| {
        matches!(
            error.kind(),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
        )
    })
}

#[tokio::test]
async fn in_fair_weather_bytes_and_the_end_of_the_stream_pass_both_ways() {
    let (_proxy, mut stream) = proxy().await;
    assert_eq!(say(&mut stream, "hello").await.unwrap(), "hello");
    let long = "x".repeat(1_000_000);
    let (mut from, mut to) = stream.split();
    let mut reply = String::new();
    let write = async {
        to.write_all(long.as_bytes()).await?;
        to.shutdown().await
    };
    tokio::try_join!(write, from.read_to_string(&mut reply)).unwrap();
    assert_eq!(reply, long);
}

#[tokio::test]
async fn latency_is_added_each_way() {
    let (mut proxy, mut stream) = proxy().await;
    proxy.latency(Duration::from_millis(50)).await;
    let start = Instant::now();
    say(&mut stream, "hello").await.unwrap();
    assert!(
        start.elapsed() >= Duration::from_millis(100),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn bandwidth_is_limited() {
    let (mut proxy, mut stream) = proxy().await;
    say(&mut stream, "open").await.unwrap();
    proxy.bandwidth(100_000).await;
    let start = Instant::now();
    say(&mut stream, &"x".repeat(30_000)).await.unwrap();
    // One chunk may have been read before the limit was set.
    assert!(
        start.elapsed() >= Duration::from_millis(250),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_blackhole_accepts_and_says_nothing_and_loses_nothing() {
    let (mut proxy, mut old) = proxy().await;
    say(&mut old, "open").await.unwrap();
    proxy.blackhole().await;
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    for stream in [&mut old, &mut new] {
        stream.write_all(b"hello").await.unwrap();
        assert!(timeout(MOMENT, stream.read_u8()).await.is_err());
    }
    proxy.restore().await;
    for stream in [&mut old, &mut new] {
        let mut reply = [0; 5];
        stream.read_exact(&mut reply).await.unwrap();
        assert_eq!(&reply, b"hello");
    }
}

#[tokio::test]
async fn a_reset_ends_open_connections_and_every_new_one() {
    let (mut proxy, mut old) = proxy().await;
    say(&mut old, "open").await.unwrap();
    proxy.reset().await;
    assert!(is_reset(say(&mut old, "hello").await));
    // The reset of a new connection may come before connect returns.
    if let Ok(mut new) = TcpStream::connect(proxy.address()).await {
        assert!(is_reset(say(&mut new, "hello").await));
    }
    proxy.restore().await;
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(say(&mut new, "hello").await.unwrap(), "hello");
}

#[tokio::test]
async fn a_cut_ends_open_connections_only_even_frozen_ones() {
    let (mut proxy, mut old) = proxy().await;
    say(&mut old, "open").await.unwrap();
    proxy.blackhole().await;
    proxy.cut().await;
    proxy.restore().await;
    assert!(is_reset(say(&mut old, "hello").await));
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(say(&mut new, "hello").await.unwrap(), "hello");
}

#[tokio::test]
async fn refused_connections_are_accepted_again_on_the_same_address() {
    let (mut proxy, mut old) = proxy().await;
    say(&mut old, "open").await.unwrap();
    proxy.refuse().await;
    assert!(is_reset(say(&mut old, "hello").await));
    let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    proxy.restore().await;
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(say(&mut new, "hello").await.unwrap(), "hello");
}

#[tokio::test]
async fn an_unreachable_server_resets_the_connection() {
    let proxy = ChaosProxy::start(([127, 0, 0, 1], testkit::free_port()).into()).await;
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(is_reset(say(&mut stream, "hello").await));
}
