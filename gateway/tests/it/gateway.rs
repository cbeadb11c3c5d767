//! A gateway process with a small configuration.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use shared::testing::{Client, Process, eventually, free_port};

pub(crate) struct Gateway {
    pub(crate) process: Process,
    pub(crate) http: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// Starts a gateway with one service `/api/things`, all of it public, and waits until it is ready.
/// `settings` are more lines of the service's block.
pub(crate) async fn start(upstreams: &[SocketAddr], settings: &str) -> Gateway {
    let gateway = launch(upstreams, settings);
    eventually(Duration::from_secs(10), async || {
        let reply = gateway.admin().get("/readyz").try_send().await;
        reply.is_ok_and(|reply| reply.status == 200)
    })
    .await;
    gateway
}

fn launch(upstreams: &[SocketAddr], settings: &str) -> Gateway {
    let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let (http, admin) = (local(free_port()), local(free_port()));
    let upstreams: Vec<String> = upstreams.iter().map(ToString::to_string).collect();
    let config = format!(
        r#"
listen: {{http: "{http}", admin: "{admin}"}}
signing_keys: "k1:{key}"
auth:
  issuers:
    - {{issuer: sluice, audience: sluice-api, hs256_secret: "{key}", algorithms: [HS256]}}
drain: {{lame_duck: 0ms, grace: 10s}}
services:
  things:
    prefix: /api/things
    upstreams: [{upstreams}]
    public: ["GET /{{*rest}}", "POST /{{*rest}}", "PUT /{{*rest}}"]
    {settings}
"#,
        key = "11".repeat(32),
        upstreams = upstreams.join(", "),
    );
    let file = write(&config);
    let process = Process::named("gateway")
        .program(env!("CARGO_BIN_EXE_gateway"))
        .arg("--config")
        .arg(&file)
        .start();
    Gateway {
        process,
        http,
        admin,
    }
}

/// A configuration in a file of its own.
pub(crate) fn write(config: &str) -> PathBuf {
    let folder = tempfile::tempdir().unwrap().keep();
    let file = folder.join("gateway.yaml");
    std::fs::write(&file, config).unwrap();
    file
}

impl Gateway {
    pub(crate) fn client(&self) -> Client {
        Client::new(format!("http://{}", self.http))
    }

    pub(crate) fn admin(&self) -> Client {
        Client::new(format!("http://{}", self.admin))
    }
}
