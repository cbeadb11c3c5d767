//! Requests at a given rate over kept connections, each noted with its times.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep_until, timeout};

use crate::checker::Admitted;

const PATIENCE: Duration = Duration::from_secs(5);
const CONNECTIONS: usize = 24;

/// One request and its answer, in microseconds since the proof began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shot {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    /// 0: the connection broke.
    pub(crate) status: u16,
    pub(crate) gateway: usize,
}

/// What is asked of one gateway.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) gateway: usize,
    pub(crate) address: SocketAddr,
    pub(crate) path: &'static str,
    /// Requests take these keys in turn.
    pub(crate) keys: Vec<String>,
    pub(crate) per_second: f64,
    pub(crate) time: Duration,
    /// So much of every second is a pause.
    pub(crate) pause: Duration,
}

impl Load {
    /// Sends it all. A connection that is behind its time sends at once.
    pub(crate) async fn fire(self, epoch: Instant) -> Vec<Shot> {
        let begun = Instant::now();
        let connections = (0..CONNECTIONS).map(|number| {
            let load = self.clone();
            tokio::spawn(async move { load.connection(number, epoch, begun).await })
        });
        let connections: Vec<_> = connections.collect();
        let mut shots = Vec::new();
        for connection in connections {
            shots.extend(connection.await.unwrap());
        }
        shots
    }

    async fn connection(&self, number: usize, epoch: Instant, begun: Instant) -> Vec<Shot> {
        let mut shots = Vec::new();
        let mut wire = None;
        for turn in 0.. {
            let place = turn * CONNECTIONS + number;
            let at = begun + Duration::from_secs_f64(place as f64 / self.per_second);
            if at.duration_since(begun) >= self.time {
                break;
            }
            sleep_until(at.into()).await;
            let running = begun.elapsed();
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
            let asked = timeout(PATIENCE, ask(&mut wire, self.address, request.as_bytes())).await;
            let status = asked.ok().and_then(Result::ok).unwrap_or(0);
            if status == 0 {
                wire = None;
            }
            shots.push(Shot {
                sent: sent.as_micros() as u64,
                answered: epoch.elapsed().as_micros() as u64,
                status,
                gateway: self.gateway,
            });
        }
        shots
    }
}

async fn ask(
    wire: &mut Option<TcpStream>,
    address: SocketAddr,
    request: &[u8],
) -> std::io::Result<u16> {
    let stream = match wire {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            wire.insert(stream)
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
        if let Some(status) = whole(&answer) {
            return Ok(status);
        }
    }
}

/// The status of an answer that has come to its end.
fn whole(answer: &[u8]) -> Option<u16> {
    let head_ends = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&answer[..head_ends]).ok()?;
    let head = head.to_ascii_lowercase();
    let length: usize = head
        .split_once("content-length: ")
        .and_then(|(_, rest)| rest.lines().next()?.parse().ok())?;
    let ended = answer.len() >= head_ends + length;
    ended.then(|| head[9..12].parse().ok()).flatten()
}

/// Those that passed.
pub(crate) fn admitted(shots: &[Shot]) -> Vec<Admitted> {
    let passed = shots.iter().filter(|shot| shot.status == 200);
    passed
        .map(|shot| Admitted {
            sent: shot.sent,
            answered: shot.answered,
        })
        .collect()
}

/// The time within which this share of the answers came, in milliseconds.
pub(crate) fn percentile(shots: &[Shot], share: f64) -> f64 {
    let mut took: Vec<u64> = shots.iter().map(|shot| shot.answered - shot.sent).collect();
    took.sort_unstable();
    match took.len() {
        0 => 0.0,
        count => took[((count - 1) as f64 * share) as usize] as f64 / 1e3,
    }
}
