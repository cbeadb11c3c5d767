//! A real nginx in a folder of its own, with the configuration of the test.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tokio::net::TcpStream;

use super::port::free_port;
use super::process::{Process, on_path};
use super::server::{missing, ready, start_on_free_ports};

pub struct Nginx {
    process: Process,
    address: SocketAddr,
}

impl Nginx {
    /// Starts nginx with the configuration that `conf` returns for a port: a whole `nginx.conf`, with paths
    /// relative to the folder. (The kit sets only the main directive `daemon off`.)
    pub async fn start(mut conf: impl FnMut(u16) -> String) -> Self {
        let started = start_on_free_ports(async || {
            let program =
                on_path("nginx").ok_or_else(|| missing("nginx", "Debian package nginx"))?;
            let port = free_port();
            let launch = Process::named("nginx").program(program);
            launch.file("nginx.conf", conf(port));
            // The workers run as nobody when the tests run as root.
            fs::set_permissions(launch.folder(), fs::Permissions::from_mode(0o755))
                .expect("the folder is ours");
            let mut process = launch
                .args([
                    "-p",
                    ".",
                    "-c",
                    "nginx.conf",
                    "-e",
                    "stderr",
                    "-g",
                    "daemon off;",
                ])
                .start();
            let address = (Ipv4Addr::LOCALHOST, port).into();
            ready(&mut process, Duration::from_secs(10), async |_| {
                TcpStream::connect(address)
                    .await
                    .map(drop)
                    .map_err(|error| error.to_string())
            })
            .await?;
            Ok(Self { process, address })
        });
        started.await.unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process, for its log and signals. SIGHUP reloads the configuration in its folder.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
