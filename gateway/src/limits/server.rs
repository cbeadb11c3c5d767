//! Connects to the Redis that a URL names: a single server, the master that Sentinels report, or a
//! Cluster.
//!
//! Nothing here repeats a command. After a failover, calls fail or get a READONLY error; the breaker
//! opens, and the next probe asks the Sentinels for the new master.

use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::cluster::{ClusterClient, ClusterConfig};
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{Sentinel, SentinelNodeConnectionInfo};
use redis::{
    Client, Cmd, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError, TlsMode, Value,
};

pub(super) const CONNECT_DEADLINE: Duration = Duration::from_millis(250);
/// Pending commands on one connection. Further ones wait, within their deadline.
const MAX_IN_FLIGHT: usize = 2048;
const SENTINEL_PORT: u16 = 26_379;

pub(super) enum Server {
    Single(Client),
    Master {
        sentinels: Vec<ConnectionInfo>,
        service: String,
        node: SentinelNodeConnectionInfo,
    },
    Cluster(Box<ClusterClient>),
}

#[derive(Clone)]
pub(super) enum Connection {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

impl Server {
    /// Reads the URL; does no I/O.
    pub(super) fn parse(url: &str) -> Result<Self, RedisError> {
        let Some(url_parts) = MultiHostUrl::parse(url)? else {
            return Ok(Self::Single(Client::open(with_nodelay(url)?)?));
        };
        match url_parts.kind {
            "sentinel" => {
                let path: Vec<&str> = url_parts.path.split('/').collect();
                let (service, database) = match path[..] {
                    [service] if !service.is_empty() => (service, ""),
                    [service, database] if !service.is_empty() => (service, database),
                    _ => return Err(unusable("name the master: …/mymaster or …/mymaster/0")),
                };
                let node = url_parts.node(url_parts.hosts[0], database)?;
                let tls = url_parts.tls.then_some(TlsMode::Secure);
                let as_node = SentinelNodeConnectionInfo::default()
                    .set_tcp_settings(tcp())
                    .set_redis_connection_info(node.redis_settings().clone());
                let sentinel = |host: &&str| {
                    let port = if has_port(host) {
                        String::new()
                    } else {
                        format!(":{SENTINEL_PORT}")
                    };
                    with_nodelay(&format!("{}://{host}{port}", url_parts.scheme()))
                };
                Ok(Self::Master {
                    sentinels: url_parts
                        .hosts
                        .iter()
                        .map(sentinel)
                        .collect::<Result<_, _>>()?,
                    service: service.to_owned(),
                    node: match tls {
                        Some(mode) => as_node.set_tls_mode(mode),
                        None => as_node,
                    },
                })
            }
            _ if url_parts.path.is_empty() => {
                let nodes = url_parts.hosts.iter().map(|host| url_parts.node(host, ""));
                let client = ClusterClient::builder(nodes.collect::<Result<Vec<_>, _>>()?)
                    .retries(0)
                    .connection_timeout(CONNECT_DEADLINE)
                    .overall_response_timeout(None)
                    .connection_concurrency_limit(MAX_IN_FLIGHT)
                    .tcp_settings(tcp())
                    .build()?;
                Ok(Self::Cluster(Box::new(client)))
            }
            _ => Err(unusable("a Cluster has no databases: leave the path out")),
        }
    }

    /// A connection that is established now or at its first use.
    pub(super) async fn lazy_connection(&self) -> Result<Connection, RedisError> {
        match self {
            Self::Single(client) => {
                ConnectionManager::new_lazy_with_config(client.clone(), config())
                    .map(Connection::Single)
            }
            Self::Cluster(client) => {
                let config = ClusterConfig::new();
                let pending = client.get_pending_async_connection_with_config(config);
                Ok(Connection::Cluster(pending))
            }
            Self::Master { .. } => self.connect().await,
        }
    }

    /// A fresh, established connection.
    pub(super) async fn connect(&self) -> Result<Connection, RedisError> {
        let client = match self {
            Self::Cluster(client) => {
                return client.get_async_connection().await.map(Connection::Cluster);
            }
            Self::Single(client) => client.clone(),
            Self::Master {
                sentinels,
                service,
                node,
            } => {
                let mut sentinels = Sentinel::build(sentinels.clone())?;
                sentinels.async_master_for(service, Some(node)).await?
            }
        };
        let manager = ConnectionManager::new_with_config(client, config()).await?;
        Ok(Connection::Single(manager))
    }
}

impl Connection {
    pub(super) async fn send(&mut self, command: &Cmd) -> Result<Value, RedisError> {
        match self {
            Self::Single(connection) => connection.req_packed_command(command).await,
            Self::Cluster(connection) => connection.req_packed_command(command).await,
        }
    }
}

/// The parts of `rediss-sentinel://user:password@host:port,host:port/service/0`.
struct MultiHostUrl<'a> {
    kind: &'a str,
    tls: bool,
    user: &'a str,
    hosts: Vec<&'a str>,
    path: &'a str,
}

impl<'a> MultiHostUrl<'a> {
    /// `None` for the URL of a single server.
    fn parse(url: &'a str) -> Result<Option<Self>, RedisError> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Ok(None);
        };
        let (redis, kind) = match scheme.split_once('-') {
            Some((redis @ ("redis" | "rediss"), kind @ ("sentinel" | "cluster"))) => (redis, kind),
            _ => return Ok(None),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (user, hosts),
            None => ("", authority),
        };
        let hosts: Vec<&str> = hosts.split(',').collect();
        if hosts.iter().any(|host| host.is_empty()) {
            return Err(unusable("it names no host, or has a comma too many"));
        }
        Ok(Some(Self {
            kind,
            tls: redis == "rediss",
            user,
            hosts,
            path,
        }))
    }

    fn scheme(&self) -> &'static str {
        if self.tls { "rediss" } else { "redis" }
    }

    fn node(&self, host: &str, database: &str) -> Result<ConnectionInfo, RedisError> {
        let (scheme, user) = (self.scheme(), self.user);
        let at = if user.is_empty() { "" } else { "@" };
        with_nodelay(&format!("{scheme}://{user}{at}{host}/{database}"))
    }
}

/// Whether a host has a port. Also handles `[::1]:26379`.
fn has_port(host: &str) -> bool {
    host.rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

fn with_nodelay(url: &str) -> Result<ConnectionInfo, RedisError> {
    Ok(url.into_connection_info()?.set_tcp_settings(tcp()))
}

fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

fn config() -> ConnectionManagerConfig {
    ConnectionManagerConfig::new()
        .set_connection_timeout(Some(CONNECT_DEADLINE))
        .set_response_timeout(None)
        .set_number_of_retries(0)
        .set_concurrency_limit(MAX_IN_FLIGHT)
}

fn unusable(why: &'static str) -> RedisError {
    RedisError::from((ErrorKind::InvalidClientConfig, why))
}
