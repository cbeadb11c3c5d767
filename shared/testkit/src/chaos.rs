//! A TCP proxy that injects network faults between a client and a server while it runs.
//!
//! It never changes, reorders or invents bytes: as in TCP, the bytes that arrive are in order and without gaps.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::port::free_port;

/// The faults that are injected now.
#[derive(Clone, Copy, Default)]
struct Faults {
    latency: Duration,
    bytes_per_second: Option<u64>,
    frozen: bool,
    /// New connections are reset at once.
    resetting: bool,
    /// How often all connections were reset. A connection ends when this differs from its value when the
    /// connection was accepted, so no reset is missed even if the faults change twice at once.
    cuts: u64,
}

type Connections = Arc<Mutex<JoinSet<()>>>;

/// A proxy in front of one address. It runs on the runtime that started it and ends with it.
pub struct ChaosProxy {
    address: SocketAddr,
    upstream: SocketAddr,
    faults: Arc<watch::Sender<Faults>>,
    connections: Connections,
    /// `None` while connections are refused.
    acceptor: Option<JoinHandle<()>>,
}

impl ChaosProxy {
    pub async fn start(upstream: SocketAddr) -> Self {
        // A port from `free_port`, not one that the system chooses: `restore` needs it again after `refuse`.
        let listener = loop {
            if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).await {
                break listener;
            }
        };
        let mut proxy = Self {
            address: listener.local_addr().expect("a listener has an address"),
            upstream,
            faults: Arc::default(),
            connections: Arc::default(),
            acceptor: None,
        };
        proxy.accept_on(listener);
        proxy
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Delays each chunk by this much in each direction.
    pub async fn latency(&mut self, latency: Duration) {
        self.change(|faults| faults.latency = latency).await;
    }

    /// Limits each direction of each connection.
    pub async fn bandwidth(&mut self, bytes_per_second: u64) {
        self.change(|faults| faults.bytes_per_second = Some(bytes_per_second.max(1)))
            .await;
    }

    /// Accepts connections and passes no bytes on; open connections freeze. After `restore` the bytes flow on.
    pub async fn blackhole(&mut self) {
        self.change(|faults| faults.frozen = true).await;
    }

    /// Resets every open connection, and every new one at once.
    pub async fn reset(&mut self) {
        self.change(|faults| faults.resetting = true).await;
        self.cut().await;
    }

    /// Resets every open connection; new ones work.
    pub async fn cut(&mut self) {
        let mut open = {
            let mut connections = lock(&self.connections);
            self.faults.send_modify(|faults| faults.cuts += 1);
            std::mem::take(&mut *connections)
        };
        while open.join_next().await.is_some() {}
    }

    /// Stops listening, and resets open connections.
    pub async fn refuse(&mut self) {
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.abort();
            acceptor.await.ok();
        }
        self.cut().await;
    }

    /// Ends all faults.
    pub async fn restore(&mut self) {
        let clear = |faults: &mut Faults| {
            *faults = Faults {
                cuts: faults.cuts,
                ..Faults::default()
            }
        };
        self.change(clear).await;
    }

    async fn change(&mut self, change: impl FnOnce(&mut Faults)) {
        self.faults.send_modify(change);
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
        let (upstream, faults) = (self.upstream, Arc::clone(&self.faults));
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
                let accepted_under = *faults.borrow();
                connections.spawn(forward(
                    client,
                    upstream,
                    accepted_under,
                    faults.subscribe(),
                ));
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

/// Forwards one connection until both ends close it, or a fault cuts it.
async fn forward(
    mut client: TcpStream,
    upstream: SocketAddr,
    accepted_under: Faults,
    mut faults: watch::Receiver<Faults>,
) {
    let mut server = None;
    if !accepted_under.resetting {
        let copying = connect_and_copy(&mut client, upstream, &mut server, faults.clone());
        tokio::select! {
            done = copying => if done.is_ok() { return },
            _ = faults.wait_for(|now| now.cuts != accepted_under.cuts) => {}
        }
    }
    for stream in [Some(client), server].into_iter().flatten() {
        // With no linger the close sends RST instead of FIN.
        stream.set_zero_linger().ok();
    }
}

async fn connect_and_copy(
    client: &mut TcpStream,
    upstream: SocketAddr,
    server: &mut Option<TcpStream>,
    faults: watch::Receiver<Faults>,
) -> std::io::Result<()> {
    until_unfrozen(&mut faults.clone()).await;
    let server = server.insert(TcpStream::connect(upstream).await?);
    // The proxy must add no delay of its own.
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    tokio::try_join!(
        copy(from_client, to_server, faults.clone()),
        copy(from_server, to_client, faults),
    )?;
    Ok(())
}

async fn copy(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut faults: watch::Receiver<Faults>,
) -> std::io::Result<()> {
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let length = match faults.borrow().bytes_per_second {
            // About twenty chunks a second.
            Some(rate) => (rate / 20).clamp(1, chunk.len() as u64) as usize,
            None => chunk.len(),
        };
        let length = from.read(&mut chunk[..length]).await?;
        let Faults {
            latency,
            bytes_per_second,
            ..
        } = *faults.borrow();
        let mut delay = latency;
        if let Some(rate) = bytes_per_second {
            delay += Duration::from_secs_f64(length as f64 / rate as f64);
        }
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        until_unfrozen(&mut faults).await;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&chunk[..length]).await?;
    }
}

async fn until_unfrozen(faults: &mut watch::Receiver<Faults>) {
    // This fails only when the proxy is dropped, and then this task is aborted.
    faults.wait_for(|now| !now.frozen).await.ok();
}
