//! A real redis-server with an append-only file, as it runs in production.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use super::port::free_port;
use super::process::{Process, on_path};
use super::server::{StartError, missing, ready, start_on_free_ports};

/// The Redis that all tests of this process share. Tests are isolated by [`Redis::key_prefix`].
pub async fn shared_redis() -> &'static Redis {
    static SHARED: OnceCell<Result<Redis, String>> = OnceCell::const_new();
    let redis = SHARED.get_or_init(Redis::try_start).await;
    redis.as_ref().unwrap_or_else(|error| panic!("{error}"))
}

pub struct Redis {
    process: Process,
    address: SocketAddr,
}

impl Redis {
    pub async fn start() -> Self {
        Self::try_start()
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts it with more arguments, such as `--cluster-enabled yes`, or `--sentinel` for a Sentinel.
    pub async fn start_with(more: &[&str]) -> Self {
        Self::try_start_with(more)
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    async fn try_start() -> Result<Self, String> {
        Self::try_start_with(&["--appendonly", "yes", "--save", ""]).await
    }

    async fn try_start_with(more: &[&str]) -> Result<Self, String> {
        start_on_free_ports(async || {
            let program = on_path("redis-server")
                .ok_or_else(|| missing("redis-server", "Debian package redis-server"))?;
            let port = free_port();
            let launch = Process::named("redis-server");
            // A file of its own, because a Sentinel keeps its state in its configuration file.
            let file = launch.file("redis.conf", "maxmemory-policy noeviction\n");
            let process = launch
                .program(program)
                .arg(file)
                .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
                .args(more)
                .start();
            let mut redis = Self {
                process,
                address: (Ipv4Addr::LOCALHOST, port).into(),
            };
            redis.ready().await?;
            Ok(redis)
        })
        .await
    }

    pub fn url(&self) -> String {
        self.url_at(self.address)
    }

    /// The URL of the same server through another address, such as a proxy's.
    pub fn url_at(&self, address: SocketAddr) -> String {
        format!("redis://{address}")
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A prefix for keys that no other test has.
    pub fn key_prefix(&self) -> String {
        super::unique("test") + ":"
    }

    /// Sends one inline command and returns the raw reply (`+OK`, `$1\r\na`).
    pub async fn command(&self, command: &str) -> String {
        let reply = ask(self.address, command).await;
        reply.unwrap_or_else(|error| panic!("redis-server did not answer `{command}`: {error}"))
    }

    /// The server's output over all its starts.
    pub fn log(&self) -> String {
        self.process.log()
    }

    pub fn pause(&mut self) {
        self.process.sigstop();
    }

    pub fn resume(&mut self) {
        self.process.sigcont();
    }

    pub fn kill(&mut self) {
        self.process.kill9();
    }

    /// Kills the server if it runs, and starts it again on the same port with the same data.
    pub async fn restart(&mut self) {
        self.process.start_again();
        self.ready().await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Restarts the server without its data, as after the loss of a machine.
    pub async fn restart_empty(&mut self) {
        self.kill();
        fs::remove_dir_all(self.process.folder().join("appendonlydir"))
            .expect("the append-only files lie in the server's folder");
        self.restart().await;
    }

    async fn ready(&mut self) -> Result<(), StartError> {
        let address = self.address;
        ready(&mut self.process, Duration::from_secs(20), async |pid| {
            // PING fails while the data is loading. The process id shows that this is not another process's
            // server on the same port.
            let alive = ask(address, "PING")
                .await
                .map_err(|error| error.to_string())?;
            let info = ask(address, "INFO server")
                .await
                .map_err(|error| error.to_string())?;
            if alive == "+PONG" && info.contains(&format!("process_id:{pid}\r\n")) {
                Ok(())
            } else {
                Err(alive)
            }
        })
        .await
    }
}

async fn ask(address: SocketAddr, command: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(format!("{command}\r\nQUIT\r\n").as_bytes())
        .await?;
    let (mut reply, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut part).await?;
        reply.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&reply);
        // A Sentinel answers QUIT with an error and keeps the connection.
        if let Some(end) = text.rfind("\r\n-ERR unknown command 'QUIT'") {
            return Ok(text[..end].to_owned());
        }
        if count == 0 {
            return Ok(text.strip_suffix("\r\n+OK\r\n").unwrap_or(&text).to_owned());
        }
    }
}
