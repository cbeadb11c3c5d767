//! The gateway: a Pingora proxy. It forwards a request that is canonical, has a route, comes from a
//! verified caller where the route requires one, and is within its limits. A signature tells the
//! workers who the caller is.
//!
//! The life of a request: [`connection`] reads its head, whole and in time, and checks that it can be
//! read in only one way ([`request::canonical`]). [`request::proxy`] asks [`request::admission`], which
//! finds its [`request::route`], verifies its caller ([`auth`]) and takes its tokens ([`limits`]). An
//! admitted request gets a replica ([`upstream`]) and signed identity headers ([`request::headers`]).
//! Any other request ends as a [`request::refusal`]. Bodies stream in both directions.
//!
//! [`build`] puts these parts together. This crate depends on no database or broker of the workers, and
//! knows nothing about tasks or notifications.

pub mod config;

pub mod connection;
pub mod request;

pub mod auth;
pub mod limits;
pub mod upstream;

mod background;
pub mod observe;

pub use config::Config;
pub use connection::drain::Stop;
pub use connection::signals::Signals;

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use anyhow::Context;
use arc_swap::ArcSwap;
use pingora::listeners::{ListenerConfig, TcpSocketOptions};
use pingora::protocols::l4::stream::L4BufferSettings;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server};
use pingora::services::background::background_service;
use pingora_proxy::http_proxy;
use runtime::client::Client;

use crate::auth::{HttpJwks, Revocations, Verifier};
use crate::background::Background;
use crate::connection::drain::Drain;
use crate::connection::heads::HeadReader;
use crate::connection::lifecycle::Lifecycle;
use crate::connection::listener::{self, CloseHandle};
use crate::limits::{LocalLimiter, RateLimiter, RedisLimiter, RedisSettings, Tallies};
use crate::observe::access_log::AccessLog;
use crate::observe::admin::AdminState;
use crate::observe::metrics::{Metrics, StateCollector};
use crate::request::active_config::ActiveConfig;
use crate::request::admission::Admission;
use crate::request::proxy::Proxy;
use crate::upstream::Cluster;

/// Bytes of the read and the write buffer of a client connection. Pingora's default read buffer of
/// 64 KiB would cost 20,000 idle connections more than 1 GiB.
const CLIENT_BUFFERS: (usize, usize) = (4096, 1460);
/// Idle connections to workers that each thread keeps.
const UPSTREAM_POOL: usize = 1024;

/// A gateway that is configured and has bound its ports, but does not serve yet.
pub struct Gateway {
    server: Server,
    drain: Drain,
}

/// Builds a gateway from a checked configuration. Binds the ports and reads key set files; does no
/// other I/O.
pub fn build(config: &Config, stop: Stop) -> anyhow::Result<Gateway> {
    let lifecycle = Arc::new(Lifecycle::default());
    let tallies = Arc::new(Tallies::default());
    let registry = prometheus::Registry::new();
    let clusters: Vec<_> = config.services.iter().cloned().map(Cluster::new).collect();
    let revocations = config.revocation.as_ref().map(|revocation| {
        let cluster = clusters
            .iter()
            .find(|cluster| cluster.service().name == revocation.service);
        let revocations = Arc::new(Revocations::new(revocation.when_stale));
        // Always found: the configuration was checked to name a service that exists.
        (revocations, cluster.cloned())
    });
    let jwks = Arc::new(HttpJwks::new(Client::new()));
    let verifier = match &revocations {
        Some((revocations, _)) => {
            Verifier::with_revocation_check(&config.auth, jwks, revocations.clone())?
        }
        None => Verifier::new(&config.auth, jwks)?,
    };
    let limiter = limiter(config)?;
    let access_log = Arc::new(AccessLog::new(config.access_log.sample));
    let admin = Arc::new(AdminState {
        started_at: jiff::Timestamp::now(),
        own_address: runtime::process::reachable(config.listen.http),
        lifecycle: lifecycle.clone(),
        clusters: clusters.clone(),
        verifier: verifier.clone(),
        revocations: revocations.as_ref().map(|(feed, _)| feed.clone()),
        limiter: limiter.clone(),
        tallies: tallies.clone(),
    });
    registry.register(Box::new(StateCollector::new(
        clusters.clone(),
        limiter.clone(),
        tallies.clone(),
        access_log.clone(),
        revocations.as_ref().map(|(feed, _)| feed.clone()),
    )?))?;
    let active_config = ActiveConfig {
        admission: Admission::new(config, verifier.clone(), limiter, &tallies)?,
        clusters: clusters.clone(),
        keys: config.signing_keys.clone(),
        head_timeout: config.listen.request_head_timeout,
        idle_timeout: config.listen.idle_timeout,
    };
    let proxy = Proxy {
        config: Arc::new(ArcSwap::from_pointee(active_config)),
        lifecycle: lifecycle.clone(),
        metrics: Metrics::new(&registry),
        access_log: access_log.clone(),
    };
    let listener = bind(config.listen.http)?;
    let background = Background {
        clusters,
        verifier,
        revocations: revocations.and_then(|(feed, cluster)| Some((feed, cluster?))),
        signing_keys: config.signing_keys.clone(),
        access_log,
        admin,
        registry,
        listener: Mutex::new(Some(bind(config.listen.admin)?)),
    };
    let (server, close_handle) = server(proxy, listener, background)?;
    Ok(Gateway {
        server,
        drain: Drain {
            stop,
            lifecycle,
            close_handle,
            lame_duck: config.drain.lame_duck,
            grace: config.drain.grace,
        },
    })
}

impl Gateway {
    /// Serves until it is told to stop and has drained. Blocks the thread.
    pub fn run(self) {
        self.server.run(RunArgs {
            shutdown_signal: Box::new(self.drain),
        });
    }
}

fn limiter(config: &Config) -> anyhow::Result<Arc<dyn RateLimiter>> {
    let Some(redis) = &config.redis else {
        return Ok(Arc::new(LocalLimiter::default()));
    };
    let settings = RedisSettings {
        url: redis.url.expose().to_owned(),
        deadline: redis.deadline,
        namespace: "sluice".to_owned(),
    };
    let limiter = RedisLimiter::new(&settings).context("redis.url is not usable")?;
    Ok(Arc::new(limiter))
}

fn server(
    proxy: Proxy,
    listener: TcpListener,
    background: Background,
) -> anyhow::Result<(Server, CloseHandle)> {
    let conf = ServerConf {
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        upstream_keepalive_pool_size: UPSTREAM_POOL,
        // `Drain` has already waited. This is for connections accepted in its last moment.
        grace_period_seconds: Some(1),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let (config, lifecycle) = (proxy.config.clone(), proxy.lifecycle.clone());
    let idle = config.load().idle_timeout;
    let head_reader = HeadReader::new(http_proxy(&server.configuration, proxy), config, lifecycle);
    let mut options = TcpSocketOptions::default();
    options.tcp_keepalive = Some(upstream::keepalive_with_timeout(idle));
    let (read, write) = CLIENT_BUFFERS;
    let endpoint = ListenerConfig::tcp(listener.local_addr()?.to_string())
        .tcp_socket_options(options)
        .l4_buffer(L4BufferSettings::new(read, write));
    let (close_handle, service) = listener::listen(head_reader, listener, endpoint)?;
    server.add_service(service);
    server.add_service(background_service("background", background));
    Ok((server, close_handle))
}

/// Binds a port before anything runs. Pingora would retry a port in use for 30 s and then panic; this
/// fails at once.
fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| {
        format!("cannot listen on {address}; change `listen` or stop what holds the port")
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
