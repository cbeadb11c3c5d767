//! A gateway process with a small configuration.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Client, Process, binary, eventually, free_port};

/// The secret of the issuer, and the key that signs requests to the workers.
pub(crate) const SECRET: &str = "1111111111111111111111111111111111111111111111111111111111111111";

pub(crate) struct Gateway {
    pub(crate) process: Process,
    pub(crate) http: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// Starts a gateway with one service, `/api/things`, which is public for GET, POST and PUT. Waits until
/// it is ready. `settings` are more lines of the service's block.
pub(crate) async fn start(upstreams: &[SocketAddr], settings: &str) -> Gateway {
    Setup::new(upstreams).service(settings).start().await
}

/// Builds a configuration.
pub(crate) struct Setup {
    upstreams: Vec<String>,
    service: String,
    listen: String,
    keys: String,
    top: String,
}

impl Setup {
    pub(crate) fn new(upstreams: &[SocketAddr]) -> Self {
        Self {
            upstreams: upstreams.iter().map(ToString::to_string).collect(),
            service: String::new(),
            listen: String::new(),
            keys: format!("hs256_secret: \"{SECRET}\", algorithms: [HS256]"),
            top: String::new(),
        }
    }

    /// Adds lines to the service's block.
    pub(crate) fn service(self, service: &str) -> Self {
        let service = service.to_owned();
        Self { service, ..self }
    }

    /// Adds keys to the `listen` block.
    pub(crate) fn listen(self, listen: &str) -> Self {
        let listen = format!(", {listen}");
        Self { listen, ..self }
    }

    /// Replaces the shared secret by another source of the issuer's keys.
    pub(crate) fn keys(self, keys: &str) -> Self {
        let keys = keys.to_owned();
        Self { keys, ..self }
    }

    /// Adds top-level blocks.
    pub(crate) fn top(self, top: &str) -> Self {
        let top = top.to_owned();
        Self { top, ..self }
    }

    pub(crate) async fn start(self) -> Gateway {
        let gateway = self.launch();
        eventually(Duration::from_secs(10), async || {
            let reply = gateway.admin().get("/readyz").try_send().await;
            reply.is_ok_and(|reply| reply.status == 200)
        })
        .await;
        gateway
    }

    /// Starts the gateway and waits until it listens, even if it is not ready.
    pub(crate) async fn start_unready(self) -> Gateway {
        let gateway = self.launch();
        eventually(Duration::from_secs(10), async || {
            tokio::net::TcpStream::connect(gateway.http).await.is_ok()
        })
        .await;
        gateway
    }

    /// Starts the gateway without waiting.
    pub(crate) fn launch(self) -> Gateway {
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let (http, admin) = (local(free_port()), local(free_port()));
        let Self {
            upstreams,
            service,
            listen,
            keys,
            top,
        } = self;
        let upstreams = upstreams.join(", ");
        let config = format!(
            r#"
listen: {{http: "{http}", admin: "{admin}"{listen}}}
signing_keys: "k1:{SECRET}"
auth:
  issuers:
    - {{issuer: sluice, audience: sluice-api, {keys}}}
drain: {{lame_duck: 0ms, grace: 10s}}
services:
  things:
    prefix: /api/things
    upstreams: [{upstreams}]
    public: ["GET /{{*rest}}", "POST /{{*rest}}", "PUT /{{*rest}}"]
    {service}
{top}
"#
        );
        let launch = Process::named("gateway").program(binary("gateway"));
        let file = launch.file("gateway.yaml", config);
        let process = launch.arg("--config").arg(file).start();
        Gateway {
            process,
            http,
            admin,
        }
    }
}

/// A token for Alice, with these claims changed.
pub(crate) fn token(changes: Value) -> String {
    let now = jiff::Timestamp::now().as_second();
    let mut claims = json!({
        "iss": "sluice", "aud": "sluice-api", "sub": "alice", "sid": "s1",
        "iat": now, "nbf": now, "exp": now + 600, "jti": "t1",
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    header.typ = Some("at+jwt".to_owned());
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&header, &claims, &key).unwrap()
}

impl Gateway {
    pub(crate) fn client(&self) -> Client {
        Client::new(format!("http://{}", self.http))
    }

    pub(crate) fn admin(&self) -> Client {
        Client::new(format!("http://{}", self.admin))
    }
}
