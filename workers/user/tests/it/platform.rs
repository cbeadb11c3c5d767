//! A worker in this process, with a database of its own.
#![expect(clippy::unwrap_used, reason = "in a test suite a failure is a panic")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bson::{Document, doc};
use contract::identity;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use runtime::secret::Secret;
use runtime::supervise::CancellationToken;
use runtime::time::{Clock, SystemClock};
use serde_json::{Value, json};
use testkit::{GATEWAY_KEYS, Reply, Signed, eventually, shared_mongodb};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use user_worker::{Config, Hashing};

pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// The system's clock, which a test can advance or hold.
#[derive(Default)]
pub(crate) struct TestClock {
    ahead_ms: AtomicU64,
    held: OnceLock<Timestamp>,
}

impl TestClock {
    pub(crate) fn advance(&self, by: Duration) {
        let ms = by.as_millis() as u64;
        self.ahead_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// Stops the clock. From now on only [`TestClock::advance`] moves it.
    pub(crate) fn hold(&self) {
        self.held.get_or_init(|| SystemClock.now());
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let held = self.held.get().copied();
        let ahead = Duration::from_millis(self.ahead_ms.load(Ordering::SeqCst));
        held.unwrap_or_else(|| SystemClock.now()) + ahead
    }
}

/// A configuration with cheap hashes and no broker, which only the events of deletions need.
pub(crate) fn config(mongodb_uri: &str, database: &str) -> Config {
    let variables = [
        ("GATEWAY_SIGNING_KEYS", GATEWAY_KEYS),
        ("TOKEN_SIGNING_KEYS", &format!("t1:{}", "07".repeat(32))),
        ("MONGODB_URI", mongodb_uri),
        ("MONGODB_DATABASE", database),
        ("AMQP_URL", "amqp://127.0.0.1:1"),
        ("DRAIN_LAME_DUCK", "1ms"),
    ];
    let variables: HashMap<String, String> = variables
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let mut config = Config::read(&variables).unwrap();
    config.credentials.hashing = Hashing::cheap();
    config
}

/// A configuration with a fresh database in the MongoDB that all tests share.
pub(crate) async fn fresh_config() -> Config {
    let mongodb = shared_mongodb().await;
    config(&mongodb.url(), &mongodb.fresh_database())
}

pub(crate) struct Worker {
    /// Signs requests without a user.
    pub(crate) gateway: Signed,
    pub(crate) config: Config,
    pub(crate) clock: Arc<TestClock>,
    shutdown: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Worker {
    /// Starts a worker and waits until it is ready.
    pub(crate) async fn start() -> Self {
        let worker = Self::with(fresh_config().await).await;
        eventually(Duration::from_secs(10), || worker.is_ready()).await;
        worker
    }

    /// Starts a worker that need not be ready.
    pub(crate) async fn with(config: Config) -> Self {
        Self::at(config, Arc::default()).await
    }

    /// Starts a second worker with the same database and clock.
    pub(crate) async fn replica(&self) -> Self {
        let replica = Self::at(copy(&self.config), self.clock.clone()).await;
        eventually(Duration::from_secs(10), || replica.is_ready()).await;
        replica
    }

    async fn at(config: Config, clock: Arc<TestClock>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway = Signed::new(format!("http://{}", listener.local_addr().unwrap()));
        let shutdown = CancellationToken::new();
        let copy = copy(&config);
        let run = user_worker::run_at(listener, config, clock.clone(), shutdown.clone());
        Self {
            gateway,
            config: copy,
            clock,
            shutdown,
            running: tokio::spawn(run),
        }
    }

    pub(crate) async fn is_ready(&self) -> bool {
        self.gateway.unsigned().get("/readyz").send().await.status == 200
    }

    /// Drains the worker, and gives its configuration for the next one.
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

    /// Registers an account and logs in. Returns the tokens.
    pub(crate) async fn join(&self, email: &str) -> Value {
        self.register(email).await.expect(201);
        self.login(email, PASSWORD).await.expect(200).json()
    }

    /// Sends requests as the user and session of these tokens.
    pub(crate) fn caller(&self, tokens: &Value) -> Signed {
        let claims = claims(&tokens["access_token"]);
        self.gateway
            .as_user(claims["sub"].as_str().unwrap())
            .with(&identity::SESSION_ID, claims["sid"].as_str().unwrap())
    }

    /// Sends requests from another client address.
    pub(crate) fn from(&self, address: &str) -> Signed {
        self.gateway.with(&identity::CLIENT_ADDRESS, address)
    }

    pub(crate) async fn refresh(&self, tokens: &Value) -> Reply {
        let body = json!({"refresh_token": tokens["refresh_token"]});
        let request = self.gateway.post("/api/users/refresh");
        request.json(&body).send().await
    }

    /// The status of `GET /me` with these tokens.
    pub(crate) async fn me(&self, tokens: &Value) -> u16 {
        let caller = self.caller(tokens);
        caller.get("/api/users/me").send().await.status.as_u16()
    }

    /// All documents of a collection, as stored.
    pub(crate) async fn documents(&self, collection: &str) -> Vec<Document> {
        let database = mongo::connect(&self.config.worker.mongo).await.unwrap();
        let found = database.collection(collection).find(doc! {}).await.unwrap();
        found.try_collect().await.unwrap()
    }
}

/// The claims of a token, without verification.
pub(crate) fn claims(token: &Value) -> Value {
    let payload = token.as_str().unwrap().split('.').nth(1).unwrap();
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn copy(config: &Config) -> Config {
    let mut copy = self::config(
        Secret::expose(&config.worker.mongo.uri),
        &config.worker.mongo.database,
    );
    copy.credentials.hashing = config.credentials.hashing.clone();
    copy.worker.amqp_url = config.worker.amqp_url.clone();
    copy
}

/// A problem without its request id, which differs in each answer, and with its headers.
pub(crate) fn problem(reply: &Reply) -> Value {
    let mut problem = reply.json();
    problem["request_id"] = Value::Null;
    problem["headers"] = json!([
        reply.header("www-authenticate"),
        reply.header("content-type")
    ]);
    problem
}

/// The members that a validation problem names.
pub(crate) fn pointers(reply: &Reply) -> Vec<String> {
    let problem = reply.json();
    let errors = problem["errors"].as_array().unwrap().iter();
    let pointers = errors.map(|error| error["pointer"].as_str().unwrap().to_owned());
    let mut pointers: Vec<_> = pointers.collect();
    pointers.sort();
    pointers
}
