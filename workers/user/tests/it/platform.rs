//! A worker in this process, with a database of its own.
#![expect(clippy::unwrap_used, reason = "in a test suite a failure is a panic")]

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};
use shared::secret::Secret;
use shared::supervise::CancellationToken;
use shared::testing::{GATEWAY_KEYS, Reply, Signed, eventually, shared_mongodb};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use user_worker::{Config, Hashing};

pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// A configuration with cheap hashes.
pub(crate) fn config(mongodb_uri: &str, database: &str) -> Config {
    let variables = [
        ("GATEWAY_SIGNING_KEYS", GATEWAY_KEYS),
        ("TOKEN_SIGNING_KEYS", &format!("t1:{}", "07".repeat(32))),
        ("MONGODB_URI", mongodb_uri),
        ("MONGODB_DATABASE", database),
        ("DRAIN_LAME_DUCK", "1ms"),
    ];
    let variables: HashMap<String, String> = variables
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let mut config = Config::read(&variables).unwrap();
    config.hashing = Hashing::cheap();
    config
}

/// A configuration with a fresh database of the MongoDB that all tests share.
pub(crate) async fn fresh_config() -> Config {
    let mongodb = shared_mongodb().await;
    config(&mongodb.url(), &mongodb.fresh_database())
}

pub(crate) struct Worker {
    /// Signs requests for nobody in particular.
    pub(crate) gateway: Signed,
    pub(crate) config: Config,
    shutdown: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Worker {
    /// A worker that is ready.
    pub(crate) async fn start() -> Self {
        let worker = Self::with(fresh_config().await).await;
        eventually(Duration::from_secs(10), || worker.is_ready()).await;
        worker
    }

    /// A worker that listens.
    pub(crate) async fn with(config: Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway = Signed::new(format!("http://{}", listener.local_addr().unwrap()));
        let shutdown = CancellationToken::new();
        let copy = copy(&config);
        let running = tokio::spawn(user_worker::run(listener, config, shutdown.clone()));
        Self {
            gateway,
            config: copy,
            shutdown,
            running,
        }
    }

    pub(crate) async fn is_ready(&self) -> bool {
        self.gateway.unsigned().get("/readyz").send().await.status == 200
    }

    /// Drains it.
    pub(crate) async fn stop(self) -> Config {
        self.shutdown.cancel();
        self.running.await.unwrap().unwrap();
        self.config
    }

    pub(crate) async fn register(&self, email: &str) -> Reply {
        let body = json!({"email": email, "password": PASSWORD, "name": "Ada"});
        self.gateway
            .post("/api/users/register")
            .json(&body)
            .send()
            .await
    }

    pub(crate) async fn login(&self, email: &str, password: &str) -> Reply {
        let body = json!({"email": email, "password": password});
        self.gateway
            .post("/api/users/login")
            .json(&body)
            .send()
            .await
    }

    /// The documents of a collection, as they lie in the database.
    pub(crate) async fn documents(&self, collection: &str) -> Vec<bson::Document> {
        use futures_util::TryStreamExt;
        let database = shared::mongo::connect(&self.config.mongo).await.unwrap();
        let found = database
            .collection(collection)
            .find(bson::doc! {})
            .await
            .unwrap();
        found.try_collect().await.unwrap()
    }
}

/// The claims of a token, unverified.
pub(crate) fn claims(token: &Value) -> Value {
    use base64::Engine;
    let payload = token.as_str().unwrap().split('.').nth(1).unwrap();
    let bytes = base64::prelude::BASE64_URL_SAFE_NO_PAD
        .decode(payload)
        .unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn copy(config: &Config) -> Config {
    let mut copy = self::config(Secret::expose(&config.mongo.uri), &config.mongo.database);
    copy.hashing = config.hashing.clone();
    copy
}
