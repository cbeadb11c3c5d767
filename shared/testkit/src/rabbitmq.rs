//! A real rabbitmq-server with its management API, on one node with an epmd of its own.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use super::client::Client;
use super::eventually::eventually;
use super::port::free_port;
use super::process::{Process, on_path};
use super::server::{StartError, missing, ready, start_on_free_ports};

/// The RabbitMQ that all tests of this process share. Tests are isolated by [`RabbitMq::fresh_vhost`].
pub async fn shared_rabbitmq() -> &'static RabbitMq {
    static SHARED: OnceCell<Result<RabbitMq, String>> = OnceCell::const_new();
    let rabbitmq = SHARED.get_or_init(RabbitMq::try_start).await;
    rabbitmq.as_ref().unwrap_or_else(|error| panic!("{error}"))
}

pub struct RabbitMq {
    process: Process,
    address: SocketAddr,
    management: SocketAddr,
    /// Unique, so that another broker on these ports is not mistaken for this one.
    user: String,
}

/// A virtual host of one test, with queues and exchanges that no other test sees.
#[derive(Clone, Debug)]
pub struct Vhost {
    name: String,
    user: String,
    address: SocketAddr,
}

impl Vhost {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn url(&self) -> String {
        self.url_at(self.address)
    }

    /// The URL of the same virtual host through another address, such as a proxy's.
    pub fn url_at(&self, address: SocketAddr) -> String {
        amqp_url(&self.user, address, &self.name)
    }
}

impl RabbitMq {
    pub async fn start() -> Self {
        Self::try_start()
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    async fn try_start() -> Result<Self, String> {
        start_on_free_ports(async || {
            let program = program()
                .ok_or_else(|| missing("rabbitmq-server", "Debian package rabbitmq-server"))?;
            let (amqp, management) = (free_port(), free_port());
            let user = super::unique("test");
            let mut rabbitmq = Self {
                process: launch(&program, amqp, management, &user),
                address: (Ipv4Addr::LOCALHOST, amqp).into(),
                management: (Ipv4Addr::LOCALHOST, management).into(),
                user,
            };
            rabbitmq.ready().await?;
            Ok(rabbitmq)
        })
        .await
    }

    /// The URL of the default virtual host, which all tests see.
    pub fn url(&self) -> String {
        amqp_url(&self.user, self.address, "%2f")
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn management_url(&self) -> String {
        format!("http://{}", self.management)
    }

    pub fn user(&self) -> &str {
        &self.user
    }

    pub fn password(&self) -> &str {
        &self.user
    }

    /// Creates a virtual host that no other test has, with every permission in it.
    pub async fn fresh_vhost(&self) -> Vhost {
        let name = super::unique("test");
        let (user, everything) = (&self.user, ".*");
        let grants = json!({ "configure": everything, "write": everything, "read": everything });
        self.manage(Method::PUT, &format!("/api/vhosts/{name}"), json!({}))
            .await;
        self.manage(
            Method::PUT,
            &format!("/api/permissions/{name}/{user}"),
            grants,
        )
        .await;
        Vhost {
            name,
            user: user.clone(),
            address: self.address,
        }
    }

    /// Calls the management API. Panics if it refuses.
    pub async fn manage(
        &self,
        method: Method,
        path: &str,
        body: serde_json::Value,
    ) -> serde_json::Value {
        let client = Client::new(self.management_url());
        let request = client
            .request(method, path)
            .basic(self.user(), self.password());
        let reply = request.json(&body).send().await;
        assert!(
            reply.status.is_success(),
            "rabbitmq-server refuses {path}: {reply:?}"
        );
        if reply.body.is_empty() {
            serde_json::Value::Null
        } else {
            reply.json()
        }
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

    /// Waits until the broker has saved which files belong to which quorum queue. Call it before a `kill`.
    ///
    /// RabbitMQ 3 saves that half a second after a queue is declared. If it is killed sooner, the queue is empty
    /// after the restart and never elects a leader, although messages were confirmed.
    pub async fn settle(&self) {
        let queues = self.manage(Method::GET, "/api/queues", json!(null)).await;
        let queues = queues.as_array().cloned().unwrap_or_default();
        let quorum = queues.iter().filter(|queue| queue["type"] == "quorum");
        let names: Vec<String> = quorum
            .map(
                |queue| match (queue["vhost"].as_str(), queue["name"].as_str()) {
                    // %2F without the `%`, which separates words below.
                    (Some("/"), Some(name)) => format!("2F_{name}"),
                    (Some(vhost), Some(name)) => format!("{vhost}_{name}"),
                    _ => panic!("a queue without a name: {queue}"),
                },
            )
            .collect();
        eventually(Duration::from_secs(10), async || {
            let saved = std::fs::read(self.quorum_folder().join("names.dets"))?;
            for name in &names {
                let folders = self.folders_of(name)?;
                // The saved name may still belong to a deleted queue's files.
                let is_saved = |folder: &PathBuf| {
                    let id = folder.file_name().unwrap_or_default().as_encoded_bytes();
                    saved.windows(id.len()).any(|window| window == id)
                };
                if folders.is_empty() || !folders.iter().all(is_saved) {
                    let why = format!("the place of {name} is not on disk");
                    return Err(std::io::Error::other(why));
                }
            }
            Ok(())
        })
        .await;
    }

    pub fn kill(&mut self) {
        self.process.kill9();
    }

    /// Kills the server and removes the files of a quorum queue: after a restart the queue exists and never has a
    /// leader. The same happens to a queue that is deleted and declared again less than half a second before the
    /// server dies (RabbitMQ 3.10: the saved name still belongs to the deleted queue's files). Returns the number
    /// of folders that were removed.
    pub fn lose_files(&mut self, queue: &str) -> std::io::Result<usize> {
        self.kill();
        let folders = self.folders_of(&format!("_{queue}"))?;
        folders.iter().try_for_each(std::fs::remove_dir_all)?;
        Ok(folders.len())
    }

    /// The folders of the quorum queues whose full names (virtual host and name) end with `name`.
    fn folders_of(&self, name: &str) -> std::io::Result<Vec<PathBuf>> {
        let mut folders = Vec::new();
        for entry in std::fs::read_dir(self.quorum_folder())? {
            let folder = entry?.path();
            let Ok(config) = std::fs::read_to_string(folder.join("config")) else {
                continue;
            };
            // An Erlang term, in which a name is quoted only if necessary.
            let mut words = config.split(|c: char| !(c.is_alphanumeric() || "_.".contains(c)));
            if words.any(|word| word.ends_with(name)) {
                folders.push(folder);
            }
        }
        Ok(folders)
    }

    fn quorum_folder(&self) -> PathBuf {
        let node = format!("{}@localhost", self.user);
        let data = self.process.folder().join("data");
        data.join(&node).join("quorum").join(&node)
    }

    /// Kills the server if it runs, and starts it again on the same ports with the same data.
    pub async fn restart(&mut self) {
        self.process.start_again();
        self.ready().await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Restarts the server with a memory limit that it exceeds already: it keeps its messages and accepts no more.
    pub async fn starve(&mut self) {
        let config = self.process.folder().join("rabbitmq.conf");
        let starve = || -> std::io::Result<()> {
            let mut file = std::fs::File::options().append(true).open(config)?;
            file.write_all(b"vm_memory_high_watermark.absolute = 1MB\n")
        };
        starve().unwrap_or_else(|error| panic!("failed to configure RabbitMQ: {error}"));
        self.restart().await;
    }

    async fn ready(&mut self) -> Result<(), StartError> {
        let (address, management) = (self.address, self.management_url());
        let user = self.user.clone();
        ready(&mut self.process, Duration::from_secs(90), async |_| {
            TcpStream::connect(address)
                .await
                .map_err(|error| error.to_string())?;
            let client = Client::new(&management);
            let whoami = client
                .get("/api/whoami")
                .basic(&user, &user)
                .try_send()
                .await;
            let reply = whoami.map_err(|error| error.to_string())?;
            if reply.status == StatusCode::OK {
                Ok(())
            } else {
                Err(reply.status.to_string())
            }
        })
        .await
    }
}

fn launch(program: &Path, amqp: u16, management: u16, user: &str) -> Process {
    // epmd runs in the foreground, in the broker's process group. An epmd that Erlang starts itself becomes a
    // daemon that is never ended.
    const SCRIPT: &str = r#"
        epmd &
        until epmd -names >/dev/null 2>&1; do sleep 0.02; done
        exec "$@"
    "#;
    let launch = Process::named("rabbitmq-server");
    let config = launch.file(
        "rabbitmq.conf",
        format!(
            "listeners.tcp.1 = 127.0.0.1:{amqp}\n\
             management.tcp.ip = 127.0.0.1\n\
             management.tcp.port = {management}\n\
             default_user = {user}\n\
             default_pass = {user}\n\
             disk_free_limit.absolute = 50MB\n\
             raft.wal_max_size_bytes = 64000000\n\
             log.console = true\n\
             log.console.level = info\n\
             log.file = false\n"
        ),
    );
    let plugins = launch.file("enabled_plugins", "[rabbitmq_management].\n");
    let folder = launch.folder().to_owned();
    launch
        .program("/bin/sh")
        .args(["-c", SCRIPT, "rabbitmq"])
        .arg(program)
        .env("RABBITMQ_NODENAME", format!("{user}@localhost"))
        .env("RABBITMQ_DIST_PORT", free_port().to_string())
        .env("ERL_EPMD_PORT", free_port().to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_CONFIG_FILE", config)
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins)
        .env("RABBITMQ_CONF_ENV_FILE", folder.join("no-such-file"))
        .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
        .env("RABBITMQ_LOG_BASE", folder.join("logs"))
        .env("RABBITMQ_PID_FILE", folder.join("pid"))
        // Idle schedulers must not spin, because the tests need the CPU.
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-start_epmd false +sbwt none +S 2:2",
        )
        .start()
}

fn amqp_url(user: &str, address: SocketAddr, vhost: &str) -> String {
    format!("amqp://{user}:{user}@{address}/{vhost}")
}

/// Debian's `rabbitmq-server` on the PATH is a wrapper that changes the user. The program behind it comes first.
fn program() -> Option<PathBuf> {
    Some(PathBuf::from("/usr/lib/rabbitmq/bin/rabbitmq-server"))
        .filter(|file| file.is_file())
        .or_else(|| on_path("rabbitmq-server"))
}
