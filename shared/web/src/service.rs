//! Answers a worker's requests. The signature is checked before any handler runs, and a handler that panics is
//! answered with 500.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use contract::identity::{REQUEST_ID, SigningKeys};
use contract::problem::Problem;
use futures_util::FutureExt;
use http::{Method, Response, header};
use hyper::body::Incoming;
use runtime::operations::Operations;
use runtime::readiness::Readiness;

use crate::metrics::HttpMetrics;
use crate::reply::{Reply, ReplyBody};
use crate::request::single;
use crate::routes::{Routes, Sender};

/// Everything that a worker's listener serves.
pub struct Service<C> {
    routes: Routes<C>,
    cx: Arc<C>,
    keys: SigningKeys,
    operations: Operations,
    metrics: HttpMetrics,
}

impl<C: Send + Sync + 'static> Service<C> {
    pub fn new(
        worker: &'static str,
        routes: Routes<C>,
        cx: Arc<C>,
        keys: SigningKeys,
        readiness: impl Readiness,
        registry: prometheus::Registry,
    ) -> Self {
        Self {
            routes,
            cx,
            keys,
            metrics: HttpMetrics::new(worker, &registry),
            operations: Operations::new(readiness, registry),
        }
    }

    fn sender(&self, head: &http::request::Parts) -> Sender {
        let target = head
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str());
        let now = jiff::Timestamp::now().as_millisecond();
        match self
            .keys
            .verify(head.method.as_str(), target, &head.headers, now)
        {
            Ok(caller) => Sender::Signed(caller),
            Err(why) => {
                tracing::debug!(%why, "a request without a valid signature");
                Sender::Unsigned
            }
        }
    }
}

impl<C: Send + Sync + 'static> runtime::serve::Service for Service<C> {
    type Body = ReplyBody;

    async fn answer(&self, request: http::Request<Incoming>) -> Response<ReplyBody> {
        let started = Instant::now();
        let (head, body) = request.into_parts();
        if head.uri.path() == "/status" {
            return Reply::ok(&self.operations.status().await).into_response();
        }
        let method = head.method.clone();
        let instance = head.uri.path().to_owned();
        let request_id = single(&head, &REQUEST_ID).unwrap_or("").to_owned();
        let known: Vec<_> = match method {
            Method::GET | Method::HEAD => head
                .headers
                .get_all(header::IF_NONE_MATCH)
                .iter()
                .cloned()
                .collect(),
            _ => Vec::new(),
        };
        let (route, answer) = self
            .routes
            .dispatch(&self.cx, self.sender(&head), head, body);

        let reply = match AssertUnwindSafe(answer).catch_unwind().await {
            Ok(Ok(reply)) => reply.unless_known(&known),
            Ok(Err(problem)) => Reply::problem(&problem, &instance, &request_id),
            Err(_) => {
                tracing::error!(request_id, "the handler of {method} {route} panicked");
                Reply::problem(&Problem::internal(), &instance, &request_id)
            }
        };
        self.metrics
            .observe(&method, route, reply.status().as_u16(), started.elapsed());
        reply.into_response()
    }

    fn operations(&self) -> &Operations {
        &self.operations
    }
}
