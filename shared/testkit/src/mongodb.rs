//! A real mongod: a replica set of one member, journaled, because transactions and change streams
//! need a replica set.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bson::doc;
use mongodb::options::ClientOptions;
use tokio::sync::OnceCell;

use super::port::free_port;
use super::process::{Process, on_path};
use super::server::{StartError, missing, ready, start_on_free_ports};

/// The mongod that all tests of this process share. Tests are isolated by [`MongoDb::fresh_database`].
pub async fn shared_mongodb() -> &'static MongoDb {
    static SHARED: OnceCell<Result<MongoDb, String>> = OnceCell::const_new();
    let mongodb = SHARED.get_or_init(MongoDb::try_start).await;
    mongodb.as_ref().unwrap_or_else(|error| panic!("{error}"))
}

pub struct MongoDb {
    process: Process,
    address: SocketAddr,
    /// Unique, so that another mongod on this port is not mistaken for this one.
    replica_set: String,
}

impl MongoDb {
    pub async fn start() -> Self {
        Self::try_start()
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    async fn try_start() -> Result<Self, String> {
        start_on_free_ports(async || {
            let program = mongod().ok_or_else(|| missing("mongod", "PyPI wheel"))?;
            let port = free_port();
            let replica_set = super::unique("rs");
            let launch = Process::named("mongod").program(program);
            std::fs::create_dir(launch.folder().join("data")).expect("the folder is ours");
            let process = launch
                .args([
                    "--dbpath",
                    "data",
                    "--bind_ip",
                    "127.0.0.1",
                    "--port",
                    &port.to_string(),
                ])
                .args([
                    "--replSet",
                    &replica_set,
                    "--oplogSize",
                    "64",
                    "--nounixsocket",
                ])
                .args(["--wiredTigerCacheSizeGB", "0.25"])
                .args(["--setParameter", "diagnosticDataCollectionEnabled=false"])
                .start();
            let address = (Ipv4Addr::LOCALHOST, port).into();
            let mut mongodb = Self {
                process,
                address,
                replica_set,
            };
            mongodb.ready().await?;
            Ok(mongodb)
        })
        .await
    }

    pub fn url(&self) -> String {
        format!(
            "mongodb://{}/?replicaSet={}",
            self.address, self.replica_set
        )
    }

    /// The URL of the same server through another address, such as a proxy's. Without discovery, which would
    /// find the server behind the proxy.
    pub fn url_at(&self, address: SocketAddr) -> String {
        format!("mongodb://{address}/?directConnection=true")
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A name for a database that no other test has.
    pub fn fresh_database(&self) -> String {
        super::unique("test")
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

    async fn ready(&mut self) -> Result<(), StartError> {
        let (address, replica_set) = (self.address, self.replica_set.clone());
        let url = self.url_at(address);
        ready(&mut self.process, Duration::from_secs(60), async |_| {
            is_primary(&url, address, &replica_set)
                .await
                .map_err(|error| error.to_string())?
        })
        .await
    }
}

/// Whether this is our server and accepts writes. It becomes the only member of its replica set first.
async fn is_primary(
    url: &str,
    address: SocketAddr,
    replica_set: &str,
) -> mongodb::error::Result<Result<(), String>> {
    let mut options = ClientOptions::parse(url).await?;
    options.server_selection_timeout = Some(Duration::from_millis(500));
    let admin = mongodb::Client::with_options(options)?.database("admin");
    let hello = admin.run_command(doc! { "hello": 1 }).await?;
    if hello.get_bool("isreplicaset").unwrap_or(false) {
        let member = doc! { "_id": 0, "host": address.to_string() };
        let config = doc! { "_id": replica_set, "members": [member] };
        admin
            .run_command(doc! { "replSetInitiate": config })
            .await?;
    }
    let ours = hello
        .get_str("setName")
        .is_ok_and(|name| name == replica_set);
    let primary = hello.get_bool("isWritablePrimary").unwrap_or(false);
    Ok((ours && primary)
        .then_some(())
        .ok_or_else(|| hello.to_string()))
}

/// The `mongod` that tests use: on the PATH, at `SLUICE_MONGOD`, or where `make test` puts it. For tests that
/// start their own.
pub fn mongod() -> Option<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
    let named = std::env::var_os("SLUICE_MONGOD").filter(|path| !path.is_empty());
    on_path("mongod")
        .or(named.map(PathBuf::from))
        .or_else(|| Some(repository.join(".tools/mongod/mongod")))
        .filter(|file| file.is_file())
}
