//! The user worker: accounts, logins, sessions, the public keys of access tokens, and the relay of
//! account events.
//!
//! `http` parses requests, `domain` decides, `passwords` and `tokens` do the cryptography, and
//! `store` is the port to the database. The worker must never answer a request that the gateway did
//! not sign (except for public keys, health and metrics), store a secret that it could read back,
//! log who a person is, or publish from a handler. The worker's process and the standalone platform
//! call [`run`].

mod app;
mod http;

pub mod domain;

pub mod passwords;
mod single_flight;
pub mod tokens;

pub mod store;

pub use passwords::Hashing;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use events::bus::Bus;
use events::readiness::StoreAndBus;
use events::relay::Relay;
use runtime::error::chain;
use runtime::process::Settings;
use runtime::supervise::CancellationToken;
use runtime::time::Clock;
use runtime::worker::Worker;
use tokio::net::TcpListener;
use web::Service;

use app::App;
use passwords::{Argon2Hasher, Passwords};
use single_flight::SingleFlight;
use store::UserStore;
use tokens::Tokens;

/// The minimum time for which a deleted account's tombstone is kept. It must outlast the 24 hours
/// of history from which a lost queue is refilled, because purging the tombstone also removes its
/// event from the history.
const TOMBSTONE_GRACE: Duration = Duration::from_secs(25 * 3600);
const PURGE_EVERY: Duration = Duration::from_secs(60);
/// How often to look for dead sessions that a crashed worker left unmarked.
const MARK_EVERY: Duration = Duration::from_millis(500);
/// The most accounts whose dead sessions one pass marks.
const DEAD_SESSIONS_BATCH: usize = 100;

/// The adapters that the worker needs.
pub struct Adapters {
    pub store: Arc<dyn UserStore>,
    pub bus: Arc<dyn Bus>,
    pub clock: Arc<dyn Clock>,
}

/// What the worker issues tokens and checks passwords with.
#[derive(Debug)]
pub struct Credentials {
    pub tokens: Tokens,
    /// Not configurable; tests make it cheap.
    pub hashing: Hashing,
}

/// Serves until `shutdown`, and returns when everything has ended. The worker keeps running without
/// its store or its broker: it is live, it is ready only while the store answers, and events wait
/// in the store.
pub async fn run(
    listener: TcpListener,
    settings: Settings,
    Credentials { tokens, hashing }: Credentials,
    Adapters { store, bus, clock }: Adapters,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let registry = prometheus::Registry::new();
    let (relay, handle) = Relay::new(store.clone(), bus.clone(), clock.clone(), &registry);
    let hasher = Argon2Hasher::new(&hashing).context("the Argon2 parameters are not usable")?;
    let app = App {
        store: store.clone(),
        relay: handle,
        passwords: Passwords::new(hasher, &hashing),
        tokens,
        registrations: SingleFlight::new(),
        clock: clock.clone(),
    };
    let readiness = StoreAndBus {
        store: store.clone(),
        bus,
    };
    let service = Service::new(
        "user",
        http::routes(),
        Arc::new(app),
        settings.signing_keys,
        readiness,
        registry,
    );

    let worker = Worker::new(shutdown);
    // The relay outlives the last request, because it publishes that request's event.
    worker.keep("relay", &worker.served, move |end| relay.clone().run(end));
    worker.keep("store maintenance", &worker.served, move |end| {
        maintain_store(store.clone(), clock.clone(), end)
    });
    worker.serve(listener, service, settings.limits).await;
    Ok(())
}

/// Creates the store's indexes, then until `ended` marks the dead sessions that a crash left
/// unmarked and purges old tombstones. Fails when the store does; the supervisor starts it again.
async fn maintain_store(
    store: Arc<dyn UserStore>,
    clock: Arc<dyn Clock>,
    ended: CancellationToken,
) -> anyhow::Result<()> {
    let work = async {
        store.prepare().await?;
        let mark = async {
            loop {
                for user in store.with_dead_sessions(DEAD_SESSIONS_BATCH).await? {
                    // A failure for one account must not hold up the others.
                    if let Err(error) = store.end_dead_sessions(&user, clock.now()).await {
                        let error = chain(&error);
                        tracing::warn!(
                            user.id = %user,
                            error,
                            "could not mark dead sessions of `{user}`; will try again",
                        );
                    }
                }
                tokio::time::sleep(MARK_EVERY).await;
            }
        };
        let purge = async {
            loop {
                store.purge(clock.now() - TOMBSTONE_GRACE).await?;
                tokio::time::sleep(PURGE_EVERY).await;
            }
        };
        tokio::select! {
            failed = mark => failed,
            failed = purge => failed,
        }
    };
    tokio::select! {
        () = ended.cancelled() => Ok(()),
        failed = work => failed,
    }
}
