//! The phases of a request, as Pingora calls them. Only the phases: the decisions are made in other
//! modules.
//!
//! head → [`admission`](crate::request::admission) → replica → identity headers → bodies stream in both
//! directions → metrics and log line.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use contract::identity::REQUEST_ID;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};

use crate::connection::lifecycle::Lifecycle;
use crate::observe::access_log::AccessLog;
use crate::observe::metrics::Metrics;
use crate::request::active_config::ActiveConfig;
use crate::request::admission::{Admitted, RequestHead};
use crate::request::ctx::RequestCtx;
use crate::request::refusal::Refusal;
use crate::request::{exchange, headers};
use crate::upstream::{self, peer};

/// How long one write of a response may take.
const CLIENT_PAUSE: Duration = Duration::from_secs(30);

/// The gateway's proxy.
pub struct Proxy {
    pub config: Arc<ArcSwap<ActiveConfig>>,
    pub lifecycle: Arc<Lifecycle>,
    pub metrics: Metrics,
    pub access_log: Arc<AccessLog>,
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = RequestCtx;

    fn new_ctx(&self) -> RequestCtx {
        RequestCtx::new(&self.lifecycle)
    }

    /// No modules: each would cost every request an allocation.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    /// Receives the refusal of a request that [`crate::connection::heads`] refused.
    fn on_connection_reuse(
        &self,
        _: &mut Session,
        ctx: &mut RequestCtx,
        refusal: Box<dyn Any + Send + Sync>,
    ) {
        ctx.refusal = refusal.downcast().ok().map(|refusal| *refusal);
    }

    /// Sets the deadlines first, because Pingora's own are infinite. Between requests,
    /// [`crate::connection::heads`] enforces them.
    async fn early_request_filter(&self, session: &mut Session, _: &mut RequestCtx) -> Result<()> {
        session.set_read_timeout(Some(self.config.load().head_timeout));
        session.set_write_timeout(Some(CLIENT_PAUSE));
        if self.lifecycle.is_draining() {
            session.set_keepalive(None);
        }
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut RequestCtx) -> Result<bool> {
        match self.admit(session, ctx).await {
            Ok(admitted) => {
                session.set_read_timeout(Some(admitted.route().timeouts.idle));
                ctx.admitted = Some(admitted);
                Ok(false)
            }
            Err(refusal) => {
                refusal.respond(session, &ctx.request_id).await?;
                ctx.refusal = Some(refusal);
                Ok(true)
            }
        }
    }

    /// Enforces the size limit on a body without a declared length, chunk by chunk.
    async fn request_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        _end: bool,
        ctx: &mut RequestCtx,
    ) -> Result<()> {
        ctx.body_bytes += body.as_ref().map_or(0, |chunk| chunk.len() as u64);
        let max = admitted(ctx)?.route().max_body;
        if ctx.body_bytes > max {
            return refuse(ctx, Refusal::payload_too_large(max));
        }
        Ok(())
    }

    async fn upstream_peer(&self, _: &mut Session, ctx: &mut RequestCtx) -> Result<Box<HttpPeer>> {
        match self.next_peer(ctx) {
            Ok(peer) => Ok(peer),
            Err(refusal) => refuse(ctx, refusal),
        }
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        up: &mut RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<()> {
        // Each attempt sends the body from its beginning.
        ctx.body_bytes = 0;
        let config = ctx.config.as_ref().ok_or_else(not_admitted)?;
        headers::assert_identity(up, admitted(ctx)?, &ctx.request_id, &config.keys)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        down: &mut ResponseHeader,
        ctx: &mut RequestCtx,
    ) -> Result<()> {
        if down.status.is_informational() && down.status != 101 {
            return Ok(());
        }
        ctx.first_byte.get_or_insert_with(|| ctx.started.elapsed());
        if self.lifecycle.is_draining() {
            session.set_keepalive(None);
        }
        if exchange::is_subscription(session.req_header(), down) {
            ctx.exclude_from_drain();
        }
        headers::set_response_headers(down, admitted(ctx)?, &ctx.request_id)
    }

    /// Nothing was sent, so another replica may be tried, whatever the method.
    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        ctx: &mut RequestCtx,
        mut error: Box<Error>,
    ) -> Box<Error> {
        self.give_up_replica(ctx);
        error.set_retry(ctx.record_failed_attempt());
        error
    }

    /// Something may have been sent, so this retries only where that is safe.
    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        ctx: &mut RequestCtx,
        reused: bool,
    ) -> Box<Error> {
        let safe = exchange::may_retry(session, &error);
        // A pooled connection that was closed in the meantime says nothing about the replica. The first
        // one does not count as a failed attempt.
        let free = safe && reused && !std::mem::replace(&mut ctx.free_retry_used, true);
        let retry = free || (safe && ctx.record_failed_attempt());
        if (safe && !free) || exchange::timed_out(&error) {
            self.give_up_replica(ctx);
        }
        error.set_retry(retry);
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut RequestCtx,
    ) -> FailToProxy {
        let refusal = match ctx.refusal.take() {
            Some(refusal) => Some(refusal),
            None => exchange::refusal(error, ctx.service()),
        };
        let mut status = 0;
        if let Some(refusal) = refusal.filter(|_| exchange::sent_response(session).is_none()) {
            status = refusal.status();
            session.set_keepalive(None);
            if let Err(error) = refusal.respond(session, &ctx.request_id).await {
                tracing::debug!(%error, "a refusal was not written");
            }
            ctx.refusal = Some(refusal);
        }
        FailToProxy {
            error_code: status,
            can_reuse_downstream: false,
        }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut RequestCtx) {
        self.metrics.observe(session, ctx);
        self.access_log.record(session, error, ctx);
    }

    /// A client that disconnects is not an error of the gateway. The access log has it.
    fn suppress_error_log(&self, _: &Session, _: &RequestCtx, error: &Error) -> bool {
        matches!(error.esource(), ErrorSource::Downstream)
            || matches!(error.etype(), ErrorType::HTTPStatus(_))
    }
}

impl Proxy {
    async fn admit(&self, session: &Session, ctx: &mut RequestCtx) -> Result<Admitted, Refusal> {
        let config = self.config.load_full();
        let request = session.req_header();
        let peer = session.client_addr().and_then(|address| address.as_inet());
        let peer = peer.ok_or_else(Refusal::internal)?.ip().to_canonical();
        let given = request.headers.get(REQUEST_ID);
        ctx.request_id = headers::request_id(given.filter(|_| config.admission.is_trusted(peer)));
        if let Some(refusal) = ctx.refusal.take() {
            return Err(refusal);
        }
        let head = RequestHead {
            method: &request.method,
            target: std::str::from_utf8(request.raw_path()).unwrap_or_default(),
            headers: &request.headers,
            peer,
        };
        let now = jiff::Timestamp::now().as_second();
        let admitted = config.admission.admit(&head, now).await;
        ctx.config = Some(config);
        admitted
    }

    /// The replica for the next attempt, with all timeouts set.
    fn next_peer(&self, ctx: &mut RequestCtx) -> Result<Box<HttpPeer>, Refusal> {
        let admitted = ctx.admitted.as_ref().ok_or_else(Refusal::internal)?;
        let route = admitted.route();
        let config = ctx.config.as_ref().ok_or_else(Refusal::internal)?;
        let cluster = config
            .clusters
            .get(route.service_index)
            .ok_or_else(Refusal::internal)?;
        let unavailable =
            |why: upstream::Unavailable| Refusal::none_available(&route.service.name, why.detail());
        if ctx.service_permit.is_none() {
            ctx.service_permit = Some(cluster.acquire().map_err(unavailable)?);
        }
        let user = admitted.identity().map(|identity| identity.user_id_str());
        let replica = cluster
            .pick(user, admitted.client(), &ctx.tried)
            .map_err(unavailable)?;
        let peer = peer(replica.address(), &route.timeouts);
        ctx.replica = Some(replica);
        Ok(Box::new(peer))
    }

    /// Ejects the replica that just failed.
    fn give_up_replica(&self, ctx: &mut RequestCtx) {
        let (Some(replica), Some(admitted), Some(config)) =
            (ctx.replica.take(), &ctx.admitted, &ctx.config)
        else {
            return;
        };
        ctx.tried.push(replica.address());
        if let Some(cluster) = config.clusters.get(admitted.route().service_index) {
            cluster.eject(replica.address());
        }
    }
}

/// The proof of admission; an error without it, because nothing is forwarded unadmitted.
fn admitted(ctx: &RequestCtx) -> Result<&Admitted> {
    ctx.admitted.as_ref().ok_or_else(not_admitted)
}

fn not_admitted() -> Box<Error> {
    Error::explain(ErrorType::InternalError, "not admitted")
}

/// Ends the request with a refusal, which `fail_to_proxy` writes.
fn refuse<T>(ctx: &mut RequestCtx, refusal: Refusal) -> Result<T> {
    let status = ErrorType::HTTPStatus(refusal.status());
    ctx.refusal = Some(refusal);
    Error::e_explain(status, "refused by the gateway")
}
