//! The paths that every listener inside the platform has: `/livez`, `/readyz` and `/metrics`, unsigned.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::readiness::{Readiness, is_ready};
use crate::telemetry;

/// Answers for the process itself: whether it lives, whether it is ready, and its metrics.
pub struct Operations {
    readiness: Box<dyn Readiness>,
    registry: prometheus::Registry,
    draining: AtomicBool,
}

impl Operations {
    pub fn new(readiness: impl Readiness, registry: prometheus::Registry) -> Self {
        Self {
            readiness: Box::new(readiness),
            registry,
            draining: AtomicBool::new(false),
        }
    }

    /// The answer, if `path` is one of these paths.
    pub(crate) async fn answer(&self, path: &str) -> Option<Response<Full<Bytes>>> {
        match path {
            "/livez" => Some(json_response(StatusCode::OK, &json!({"status": "live"}))),
            "/readyz" => Some(self.readyz().await),
            "/metrics" => {
                let text = telemetry::render(&self.registry);
                let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                Some(response(StatusCode::OK, kind, text))
            }
            _ => None,
        }
    }

    async fn readyz(&self) -> Response<Full<Bytes>> {
        let (ready, body) = self.health().await;
        let status = match ready {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        };
        json_response(status, &body)
    }

    /// A worker's `/status`: the body of `/readyz`, and every metric that is a single number.
    pub async fn status(&self) -> Value {
        let (_, mut body) = self.health().await;
        body["figures"] = telemetry::figures(&self.registry).into();
        body
    }

    async fn health(&self) -> (bool, Value) {
        let draining = self.is_draining();
        let dependencies = self.readiness.dependencies().await;
        let ready = !draining && is_ready(&dependencies);
        let body = json!({
            "status": if ready { "ready" } else { "not ready" },
            "draining": draining,
            "dependencies": dependencies,
        });
        (ready, body)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(crate) fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether every required dependency can be reached now.
    pub(crate) async fn dependencies_are_there(&self) -> bool {
        is_ready(&self.readiness.dependencies().await)
    }
}

/// A JSON response.
pub fn json_response(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let kind = HeaderValue::from_static("application/json");
    response(status, kind, body.to_string().into_bytes())
}

fn response(status: StatusCode, kind: HeaderValue, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
