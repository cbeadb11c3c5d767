//! A TCP proxy that breaks the network between two parties, switched while it runs.
//!
//! It never alters, reorders or invents bytes: what arrives at all arrives whole and in order, as
//! TCP has it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::port::free_port;

/// What the network does at the moment.
#[derive(Clone, Copy, Default)]
struct Weather {
    latency: Duration,
    bytes_per_second: Option<u64>,
    frozen: bool,
    /// New connections are reset at once.
    resetting: bool,
    /// How often all connections were reset. A connection ends when this is no longer what it was
    /// at its birth, which cannot be missed even when the weather changes twice in a moment.
    cuts: u64,
}

type Connections = Arc<Mutex<JoinSet<()>>>;

/// A proxy in front of one address. It runs on the runtime that started it and ends with it.
pub struct ChaosProxy {
    address: SocketAddr,
    upstream: SocketAddr,
    weather: Arc<watch::Sender<Weather>>,
    connections: Connections,
    /// None while connections are refused.
    acceptor: Option<JoinHandle<()>>,
}

impl ChaosProxy {
    pub async fn start(upstream: SocketAddr) -> Self {
        // A port of the kit, not one the system chooses: `restore` needs it again after `refuse`.
        let listener = loop {
            if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).await {
                break listener;
            }
        };
        let mut proxy = Self {
            address: listener.local_addr().expect("a listener has an address"),
            upstream,
            weather: Arc::default(),
            connections: Arc::default(),
            acceptor: None,
        };
        proxy.accept_on(listener);
        proxy
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Each chunk takes this much longer, each way.
    pub async fn latency(&mut self, latency: Duration) {
        self.change(|weather| weather.latency = latency).await;
    }

    /// Each direction of each connection carries no more than this.
    pub async fn bandwidth(&mut self, bytes_per_second: u64) {
        self.change(|weather| weather.bytes_per_second = Some(bytes_per_second.max(1)))
            .await;
    }

    /// Accepts and says nothing; open connections freeze. After `restore` the bytes flow on.
    pub async fn blackhole(&mut self) {
        self.change(|weather| weather.frozen = true).await;
    }

    /// Resets every open connection, and every new one as it comes.
    pub async fn reset(&mut self) {
        self.change(|weather| weather.resetting = true).await;
        self.cut().await;
    }

    /// Resets every open connection; new ones pass.
    pub async fn cut(&mut self) {
        let mut open = {
            let mut connections = lock(&self.connections);
            self.weather.send_modify(|weather| weather.cuts += 1);
            std::mem::take(&mut *connections)
        };
        while open.join_next().await.is_some() {}
    }

    /// Nothing listens any more, and open connections are reset.
    pub async fn refuse(&mut self) {
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.abort();
            acceptor.await.ok();
        }
        self.cut().await;
    }

    /// Fair weather again.
    pub async fn restore(&mut self) {
        let fair = |weather: &mut Weather| {
            *weather = Weather {
                cuts: weather.cuts,
                ..Weather::default()
            }
        };
        self.change(fair).await;
    }

    async fn change(&mut self, change: impl FnOnce(&mut Weather)) {
        self.weather.send_modify(change);
        if self.acceptor.is_none() {
            let listener = TcpListener::bind(self.address)
                .await
                .unwrap_or_else(|error| {
                    panic!("the proxy cannot listen on {} again: {error}", self.address)
                });
            self.accept_on(listener);
        }
    }

    fn accept_on(&mut self, listener: TcpListener) {
        let (upstream, weather) = (self.upstream, Arc::clone(&self.weather));
        let connections = Arc::clone(&self.connections);
        self.acceptor = Some(tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let mut connections = lock(&connections);
                while connections.try_join_next().is_some() {}
                // Under the lock, so that `cut` sees each connection either as old or as new.
                let born = *weather.borrow();
                connections.spawn(carry(client, upstream, born, weather.subscribe()));
            }
        }));
    }
}

impl Drop for ChaosProxy {
    fn drop(&mut self) {
        if let Some(acceptor) = &self.acceptor {
            acceptor.abort();
        }
        lock(&self.connections).abort_all();
    }
}

fn lock(connections: &Connections) -> std::sync::MutexGuard<'_, JoinSet<()>> {
    connections.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Carries one connection until both ends are done, or the network cuts it.
async fn carry(
    mut client: TcpStream,
    upstream: SocketAddr,
    born: Weather,
    mut weather: watch::Receiver<Weather>,
) {
    let mut server = None;
    if !born.resetting {
        let flow = flow(&mut client, upstream, &mut server, weather.clone());
        tokio::select! {
            done = flow => if done.is_ok() { return },
            _ = weather.wait_for(|now| now.cuts != born.cuts) => {}
        }
    }
    for stream in [Some(client), server].into_iter().flatten() {
        // With no linger the close sends RST instead of FIN.
        stream.set_zero_linger().ok();
    }
}

async fn flow(
    client: &mut TcpStream,
    upstream: SocketAddr,
    server: &mut Option<TcpStream>,
    weather: watch::Receiver<Weather>,
) -> std::io::Result<()> {
    thawed(&mut weather.clone()).await;
    let server = server.insert(TcpStream::connect(upstream).await?);
    // The proxy must add no delay of its own.
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    tokio::try_join!(
        pump(from_client, to_server, weather.clone()),
        pump(from_server, to_client, weather),
    )?;
    Ok(())
}

async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut weather: watch::Receiver<Weather>,
) -> std::io::Result<()> {
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let length = match weather.borrow().bytes_per_second {
            // About twenty chunks a second.
            Some(rate) => (rate / 20).clamp(1, chunk.len() as u64) as usize,
            None => chunk.len(),
        };
        let length = from.read(&mut chunk[..length]).await?;
        let Weather {
            latency,
            bytes_per_second,
            ..
        } = *weather.borrow();
        let mut delay = latency;
        if let Some(rate) = bytes_per_second {
            delay += Duration::from_secs_f64(length as f64 / rate as f64);
        }
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        thawed(&mut weather).await;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&chunk[..length]).await?;
    }
}

async fn thawed(weather: &mut watch::Receiver<Weather>) {
    // Fails only when the proxy is gone, and then this task is being aborted.
    weather.wait_for(|now| !now.frozen).await.ok();
}
