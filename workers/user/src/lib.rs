//! The user worker: accounts, logins, sessions and the public keys of access tokens.
//!
//! `http` parses, `domain` decides, `passwords` and `tokens` do the cryptography, `store` keeps.
//! What it must never do: answer a request that the gateway did not sign (public keys, health and
//! metrics excepted), store a secret that it could read back, or log who a person is. `main` and the
//! composition root call [`run`].

mod http;

pub mod domain;

pub mod passwords;
pub mod tokens;

pub mod store;

mod config;

pub use config::{Config, DEFAULT_PORT};
pub use passwords::Hashing;

use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use shared::http::Service;
use shared::http::serve::{Dependency, Readiness, serve};
use shared::supervise::{CancellationToken, TaskTracker, keep_running};
use shared::time::{Clock, SystemClock};
use shared::worker::dependency;
use tokio::net::TcpListener;

use passwords::{Argon2Hasher, Passwords};
use store::UserStore;
use store::mongo::MongoUserStore;
use tokens::Tokens;

/// What the handlers share.
struct App {
    store: Arc<dyn UserStore>,
    passwords: Passwords,
    tokens: Tokens,
    clock: Box<dyn Clock>,
}

/// Serves until `shutdown`, and returns when everything has ended. A store that is away ends
/// nothing: the worker is live, not ready, and tries again.
pub async fn run(
    listener: TcpListener,
    config: Config,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let store: Arc<dyn UserStore> = Arc::new(MongoUserStore::connect(&config.mongo).await?);
    let hasher =
        Argon2Hasher::new(&config.hashing).context("the Argon2 parameters are not usable")?;
    let app = App {
        store: store.clone(),
        passwords: Passwords::new(hasher, &config.hashing),
        tokens: config.tokens,
        clock: Box::new(SystemClock),
    };
    let settings = config.settings;
    let service = Service::new(
        "user",
        http::routes(),
        Arc::new(app),
        settings.signing_keys,
        Dependencies(store.clone()),
        prometheus::Registry::new(),
    );

    let stopping = CancellationToken::new();
    let tasks = TaskTracker::new();
    let token = stopping.clone();
    tasks.spawn(keep_running(
        "prepare the store",
        stopping.clone(),
        move || prepare(store.clone(), token.clone()),
    ));
    serve(listener, service, settings.limits, shutdown, stopping).await;
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// Makes the store's indexes, whenever it can be reached, and then has nothing left to do.
async fn prepare(store: Arc<dyn UserStore>, stopping: CancellationToken) -> anyhow::Result<()> {
    tokio::select! {
        () = stopping.cancelled() => return Ok(()),
        prepared = store.prepare() => prepared?,
    }
    stopping.cancelled().await;
    Ok(())
}

struct Dependencies(Arc<dyn UserStore>);

#[async_trait]
impl Readiness for Dependencies {
    async fn dependencies(&self) -> Vec<Dependency> {
        vec![dependency("mongodb", true, self.0.ready()).await]
    }
}
