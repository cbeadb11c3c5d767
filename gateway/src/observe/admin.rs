//! The admin listener, never public: `/livez`, `/readyz`, `/metrics` and `/status`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use contract::problem::{Kind, MEDIA_TYPE, Problem};
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use jiff::Timestamp;
use runtime::operations::{Operations, json_response};
use runtime::readiness::{Dependency, Readiness};
use runtime::serve::Service;
use serde_json::{Value, json};

use crate::auth::{Revocations, Verifier};
use crate::connection::lifecycle::Lifecycle;
use crate::limits::{RateLimiter, Tallies};
use crate::upstream::Cluster;

/// What the admin listener reports on.
pub struct AdminState {
    pub started_at: Timestamp,
    /// The address at which this gateway can reach its own proxy listener.
    pub own_address: SocketAddr,
    pub lifecycle: Arc<Lifecycle>,
    pub clusters: Vec<Arc<Cluster>>,
    pub verifier: Arc<Verifier>,
    pub revocations: Option<Arc<Revocations>>,
    pub limiter: Arc<dyn RateLimiter>,
    pub tallies: Arc<Tallies>,
}

/// Everything that the admin listener serves.
pub fn service(admin: Arc<AdminState>, registry: prometheus::Registry) -> impl Service {
    let ready = GatewayReadiness {
        admin: admin.clone(),
        listening: AtomicBool::new(false),
    };
    AdminService {
        admin,
        operations: Operations::new(ready, registry),
    }
}

struct AdminService {
    admin: Arc<AdminState>,
    operations: Operations,
}

impl Service for AdminService {
    type Body = Full<Bytes>;

    async fn answer(&self, request: http::Request<Incoming>) -> Response<Full<Bytes>> {
        const ALLOW: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");
        let path = request.uri().path();
        let refusal = match (path, request.method()) {
            ("/status", &Method::GET | &Method::HEAD) => {
                return json_response(StatusCode::OK, &status(&self.admin));
            }
            ("/status", &Method::OPTIONS) => {
                let mut response = Response::new(Full::default());
                *response.status_mut() = StatusCode::NO_CONTENT;
                response.headers_mut().insert(header::ALLOW, ALLOW);
                return response;
            }
            ("/status", method) => {
                let detail = format!("{method} is not allowed here; GET, HEAD, OPTIONS is.");
                Problem::new(Kind::MethodNotAllowed, detail).with_header(header::ALLOW, ALLOW)
            }
            _ => Problem::not_found("resource"),
        };
        let mut response = Response::new(Full::new(refusal.body(path, "")));
        *response.status_mut() = refusal.status();
        for (name, value) in refusal.headers() {
            response.headers_mut().insert(name, value.clone());
        }
        let kind = HeaderValue::from_static(MEDIA_TYPE);
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }

    fn operations(&self) -> &Operations {
        &self.operations
    }
}

struct GatewayReadiness {
    admin: Arc<AdminState>,
    /// Set once the proxy's listener has accepted a connection.
    listening: AtomicBool,
}

impl GatewayReadiness {
    /// Pingora does not report when the proxy's listener accepts connections, so this connects to it
    /// until that has worked once.
    async fn is_listening(&self) -> bool {
        if !self.listening.load(Ordering::Relaxed) {
            let connect = tokio::net::TcpStream::connect(self.admin.own_address);
            let connected = tokio::time::timeout(Duration::from_millis(500), connect).await;
            self.listening
                .store(matches!(connected, Ok(Ok(_))), Ordering::Relaxed);
        }
        self.listening.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Readiness for GatewayReadiness {
    /// The gateway is ready when it accepts requests and can verify tokens. It needs neither Redis nor
    /// any worker for that.
    async fn dependencies(&self) -> Vec<Dependency> {
        let keys = self.admin.verifier.is_ready();
        let ends = self
            .admin
            .revocations
            .as_ref()
            .is_none_or(|revocations| revocations.is_ready());
        let draining = self.admin.lifecycle.is_draining();
        let listening = self.is_listening().await;
        vec![
            Dependency {
                name: "token keys",
                ok: keys,
                required: true,
                detail: (!keys).then(|| "no key set was loaded yet".to_owned()),
            },
            Dependency {
                name: "ended sessions",
                ok: ends,
                required: true,
                detail: (!ends).then(|| "no user worker has reported them yet".to_owned()),
            },
            Dependency {
                name: "listener",
                ok: listening && !draining,
                required: true,
                detail: match (draining, listening) {
                    (true, _) => Some("draining".to_owned()),
                    (false, false) => Some("not listening yet".to_owned()),
                    (false, true) => None,
                },
            },
        ]
    }
}

fn status(admin: &AdminState) -> Value {
    let limiter = admin.limiter.status();
    let tallies = admin.tallies.snapshot();
    let admitted: u64 = tallies.iter().map(|(_, tally)| tally.admitted).sum();
    let denied: u64 = tallies.iter().map(|(_, tally)| tally.denied).sum();
    let keys = admin.verifier.keys();
    let keys = keys
        .iter()
        .map(|key| json!({"kid": key.kid, "alg": key.alg, "issuer": key.issuer}));
    let revocation = admin.revocations.as_ref().map(|revocations| {
        let feed = revocations.feed_status();
        let age = feed
            .age
            .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        json!({"sequence": feed.learnt, "age_ms": age})
    });
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started_at": contract::time::rfc3339(admin.started_at),
        "config": {"version": 1, "loaded_at": contract::time::rfc3339(admin.started_at), "last_error": null},
        "services": admin.clusters.iter().map(|c| (c.service().name.clone(), cluster(c))).collect::<serde_json::Map<_, _>>(),
        "limiter": {
            "mode": limiter.mode.as_str(),
            "breaker": limiter.breaker.as_str(),
            "redis_calls": limiter.redis_calls.answered + limiter.redis_calls.failed,
            "redis_failed": limiter.redis_calls.failed,
            "admitted": admitted,
            "denied": denied,
            "leased": limiter.leases.granted,
            "handed_back": limiter.leases.handed_back,
        },
        "keys": keys.collect::<Vec<Value>>(),
        "revocation": revocation,
        "draining": admin.lifecycle.is_draining(),
    })
}

fn cluster(cluster: &Arc<Cluster>) -> Value {
    let upstreams = cluster.replicas();
    let upstreams = upstreams.iter().map(|replica| {
        let ejected_until = cluster
            .ejected_for(replica)
            .and_then(|left| Timestamp::now().checked_add(left).ok())
            .map(contract::time::rfc3339);
        json!({
            "address": replica.address.to_string(),
            "healthy": replica.is_healthy(),
            "in_flight": replica.in_flight(),
            "ejected_until": ejected_until,
        })
    });
    json!({"upstreams": upstreams.collect::<Vec<Value>>()})
}
