//! Sends requests at a given rate over persistent connections, and notes the times of each.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep_until, timeout};

use crate::checker::Admitted;

const DEADLINE: Duration = Duration::from_secs(5);
const CONNECTIONS: usize = 24;

/// A request and its answer; times in microseconds since the proof began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exchange {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    /// 0: the connection broke, or no answer came in time.
    pub(crate) status: u16,
    pub(crate) gateway: usize,
}

/// The requests for one gateway.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) gateway: usize,
    pub(crate) address: SocketAddr,
    pub(crate) path: &'static str,
    /// The requests use these keys in turn.
    pub(crate) keys: Vec<String>,
    pub(crate) per_second: f64,
    pub(crate) time: Duration,
    /// The part at the beginning of every second without requests.
    pub(crate) pause: Duration,
}

impl Load {
    /// Sends all requests. A connection that is late sends its next request at once.
    pub(crate) async fn send(self, epoch: Instant) -> Vec<Exchange> {
        let started = Instant::now();
        let connections = (0..CONNECTIONS).map(|number| {
            let load = self.clone();
            tokio::spawn(async move { load.connection(number, epoch, started).await })
        });
        let connections: Vec<_> = connections.collect();
        let mut exchanges = Vec::new();
        for connection in connections {
            exchanges.extend(connection.await.unwrap());
        }
        exchanges
    }

    async fn connection(&self, number: usize, epoch: Instant, started: Instant) -> Vec<Exchange> {
        let mut exchanges = Vec::new();
        let mut connection = None;
        for turn in 0.. {
            let place = turn * CONNECTIONS + number;
            let at = started + Duration::from_secs_f64(place as f64 / self.per_second);
            if at.duration_since(started) >= self.time {
                break;
            }
            sleep_until(at.into()).await;
            let running = started.elapsed();
            if running >= self.time {
                break;
            }
            if running.subsec_nanos() < self.pause.subsec_nanos() {
                continue;
            }
            let key = &self.keys[place % self.keys.len()];
            let request = format!(
                "GET /api/things{} HTTP/1.1\r\nhost: x\r\nx-forwarded-for: {key}\r\n\r\n",
                self.path
            );
            let sent = epoch.elapsed();
            let status = timeout(
                DEADLINE,
                request_on(&mut connection, self.address, request.as_bytes()),
            )
            .await;
            let status = status.ok().and_then(Result::ok).unwrap_or(0);
            if status == 0 {
                connection = None;
            }
            exchanges.push(Exchange {
                sent: sent.as_micros() as u64,
                answered: epoch.elapsed().as_micros() as u64,
                status,
                gateway: self.gateway,
            });
        }
        exchanges
    }
}

/// Sends a request over `connection`, which is opened if there is none. Returns the answer's status.
async fn request_on(
    connection: &mut Option<TcpStream>,
    address: SocketAddr,
    request: &[u8],
) -> std::io::Result<u16> {
    let stream = match connection {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            connection.insert(stream)
        }
    };
    stream.write_all(request).await?;
    let (mut answer, mut part) = (Vec::with_capacity(512), [0; 4096]);
    loop {
        let count = stream.read(&mut part).await?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        answer.extend_from_slice(&part[..count]);
        if let Some(status) = complete(&answer) {
            return Ok(status);
        }
    }
}

/// The status of an answer, once it is complete.
fn complete(answer: &[u8]) -> Option<u16> {
    let head_ends = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&answer[..head_ends]).ok()?;
    let head = head.to_ascii_lowercase();
    let length: usize = head
        .split_once("content-length: ")
        .and_then(|(_, rest)| rest.lines().next()?.parse().ok())?;
    let ended = answer.len() >= head_ends + length;
    ended.then(|| head[9..12].parse().ok()).flatten()
}

/// The exchanges whose requests were admitted.
pub(crate) fn admitted(exchanges: &[Exchange]) -> Vec<Admitted> {
    let passed = exchanges.iter().filter(|exchange| exchange.status == 200);
    passed
        .map(|exchange| Admitted {
            sent: exchange.sent,
            answered: exchange.answered,
        })
        .collect()
}

/// The time within which this share of the answers arrived, in milliseconds.
pub(crate) fn percentile(exchanges: &[Exchange], share: f64) -> f64 {
    let mut took: Vec<u64> = exchanges
        .iter()
        .map(|exchange| exchange.answered - exchange.sent)
        .collect();
    took.sort_unstable();
    match took.len() {
        0 => 0.0,
        count => took[((count - 1) as f64 * share) as usize] as f64 / 1e3,
    }
}
