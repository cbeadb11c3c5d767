//! Two gateways, one Redis, and an upstream that answers immediately.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use testkit::{ChaosProxy, Redis, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::gateway::{Gateway, Setup};

/// Requests a second. A debug build can handle a fifth.
pub(crate) const RATE: u64 = if cfg!(debug_assertions) { 200 } else { 1_000 };

/// A policy: `rate` tokens for each `per`.
pub(crate) struct Limit {
    pub(crate) name: &'static str,
    pub(crate) rate: u64,
    pub(crate) burst: u64,
    pub(crate) per: &'static str,
}

impl Limit {
    const fn new(name: &'static str, rate: u64, per: &'static str, burst: u64) -> Self {
        Self {
            name,
            rate,
            burst,
            per,
        }
    }

    pub(crate) fn per_minute(&self) -> u64 {
        match self.per {
            "s" => self.rate * 60,
            _ => self.rate,
        }
    }
}

/// Each limit applies to the path with its name.
pub(crate) static LIMITS: [Limit; 6] = [
    Limit::new("hot", RATE, "s", RATE),
    // The smallest burst for which leases are used.
    Limit::new("tight", RATE, "s", RATE / 5),
    Limit::new("user", 100, "s", 200),
    Limit::new("slow", 10, "min", 5),
    Limit::new("honest", 20, "s", 40),
    Limit::new("never", 1_000_000, "s", 1_000_000),
];

pub(crate) struct Stack {
    pub(crate) redis: Redis,
    /// Between each gateway and Redis.
    pub(crate) proxies: Vec<ChaosProxy>,
    pub(crate) gateways: Vec<Gateway>,
}

impl Stack {
    pub(crate) async fn start() -> Self {
        let upstream = upstream().await;
        let redis = Redis::start().await;
        let policies = LIMITS.iter().map(|limit| {
            let Limit {
                name,
                rate,
                burst,
                per,
            } = limit;
            format!("    {name}: {{key: address, rate: {rate}/{per}, burst: {burst}}}\n")
        });
        let policies: String = policies.collect();
        let rules = LIMITS.iter().map(|limit| {
            let name = limit.name;
            format!("      - {{match: \"GET /{name}\", limits: [{name}]}}\n")
        });
        let rules: String = rules.collect();
        let both = "      - {match: \"GET /both\", limits: [hot, slow]}\n";
        let mut proxies = Vec::new();
        let mut gateways = Vec::new();
        for _ in 0..2 {
            let proxy = ChaosProxy::start(redis.address()).await;
            let url = redis.url_at(proxy.address());
            let top = format!(
                "redis: {{url: \"{url}\"}}\ntrusted_proxies: [127.0.0.1/32]\n\
                 limits:\n  gateways: 2\n  policies:\n{policies}"
            );
            let setup = Setup::new(&[upstream]).top(&top);
            let setup = setup.service(&format!("rules:\n{rules}{both}"));
            gateways.push(setup.start().await);
            proxies.push(proxy);
        }
        Self {
            redis,
            proxies,
            gateways,
        }
    }

    pub(crate) async fn status(&self, gateway: usize) -> Value {
        let status = self.gateways[gateway].admin().get("/status").send().await;
        status.expect(200).json()["limiter"].clone()
    }

    /// How many commands the gateways have sent to Redis, and how many of them failed.
    pub(crate) async fn commands(&self) -> (u64, u64) {
        let (mut commands, mut failed) = (0, 0);
        for gateway in 0..self.gateways.len() {
            let status = self.status(gateway).await;
            commands += status["redis_calls"].as_u64().unwrap_or(0);
            failed += status["redis_failed"].as_u64().unwrap_or(0);
        }
        (commands, failed)
    }

    /// Waits until both gateways use Redis again.
    pub(crate) async fn wait_for_redis(&self) {
        for gateway in 0..self.gateways.len() {
            eventually(Duration::from_secs(10), async || {
                self.status(gateway).await["mode"] == "redis"
            })
            .await;
        }
    }
}

/// Starts an upstream that answers every request with a few bytes.
async fn upstream() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.set_nodelay(true).ok();
                let (mut head, mut part) = (Vec::new(), [0; 4096]);
                while let Ok(count @ 1..) = stream.read(&mut part).await {
                    head.extend_from_slice(&part[..count]);
                    if head.ends_with(b"\r\n\r\n") {
                        head.clear();
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                        if stream.write_all(answer).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}
