//! The user worker: accounts, logins, sessions, the public keys of access tokens, and the relay of
//! what others must know of accounts.
//!
//! `http` parses, `domain` decides, `passwords` and `tokens` do the cryptography, `store` keeps.
//! What it must never do: answer a request that the gateway did not sign (public keys, health and
//! metrics excepted), store a secret that it could read back, log who a person is, or publish from a
//! handler. `main` and the composition root call [`run`].

mod app;
mod http;

pub mod domain;

mod flights;
pub mod passwords;
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
use flights::Flights;
use passwords::{Argon2Hasher, Passwords};
use store::UserStore;
use tokens::Tokens;

/// How long a deleted account's tombstone is kept after all that follows from it is done. The
/// history keeps its event as long: a lost queue is refilled with that of the last 24 hours.
const TOMBSTONE_GRACE: Duration = Duration::from_secs(25 * 3600);
const PURGE_EVERY: Duration = Duration::from_secs(60);
/// How soon a session that died with a password or an account is marked, when whoever ended it died too.
const MARK_EVERY: Duration = Duration::from_millis(500);
/// Accounts whose sessions are looked after in one go.
const ACCOUNTS_AT_ONCE: usize = 100;

/// What the worker stands on.
pub struct Adapters {
    pub store: Arc<dyn UserStore>,
    pub bus: Arc<dyn Bus>,
    pub clock: Arc<dyn Clock>,
}

/// What makes and proves who somebody is.
#[derive(Debug)]
pub struct Credentials {
    pub tokens: Tokens,
    /// Fixed by the product; tests make it cheap.
    pub hashing: Hashing,
}

/// Serves until `shutdown`, and returns when everything has ended. A store or a broker that is away
/// ends nothing: the worker is live, ready when the store is there, and events wait in the store.
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
        registrations: Flights::new(),
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
    // The relay outlives the last request, whose event it is to publish.
    worker.keep("relay", &worker.served, move |end| relay.clone().run(end));
    worker.keep("keep the store in order", &worker.served, move |end| {
        keep_in_order(store.clone(), clock.clone(), end)
    });
    worker.serve(listener, service, settings.limits).await;
    Ok(())
}

/// Makes the store's indexes, whenever it can be reached, and then finishes what a crash left undone
/// and purges what was deleted long ago.
async fn keep_in_order(
    store: Arc<dyn UserStore>,
    clock: Arc<dyn Clock>,
    ended: CancellationToken,
) -> anyhow::Result<()> {
    let work = async {
        store.prepare().await?;
        let mark = async {
            loop {
                for user in store.with_dead_sessions(ACCOUNTS_AT_ONCE).await? {
                    // One account that cannot be marked must not hold up the others.
                    if let Err(error) = store.end_dead_sessions(&user, clock.now()).await {
                        let error = chain(&error);
                        tracing::warn!(user.id = %user, error, "dead sessions are marked later");
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
