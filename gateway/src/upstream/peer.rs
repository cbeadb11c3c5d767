//! One attempt at a replica: how it is reached, what may be repeated, and what a failure means.

use std::net::SocketAddr;
use std::time::Duration;

use pingora::http::ResponseHeader;
use pingora::protocols::TcpKeepalive;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora::{Error, ErrorSource, ErrorType};
use pingora_proxy::Session;

use crate::config::Timeouts;
use crate::refusal::Refusal;

/// How long an idle connection to a worker is kept: less than the workers keep theirs (30 s), so
/// that no request is written into a connection that is being closed.
const POOL_IDLE: Duration = Duration::from_secs(20);

/// A replica with every time-out set; Pingora's own are all infinite.
pub fn peer(address: SocketAddr, timeouts: &Timeouts) -> HttpPeer {
    let mut peer = HttpPeer::new(address, false, String::new());
    let options = &mut peer.options;
    options.connection_timeout = Some(timeouts.connect);
    options.total_connection_timeout = Some(timeouts.connect);
    options.read_timeout = Some(read_timeout(timeouts));
    options.write_timeout = Some(timeouts.idle);
    options.idle_timeout = Some(POOL_IDLE);
    options.tcp_keepalive = Some(given_up_after(timeouts.idle));
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::standard();
    peer
}

/// Has the kernel break a connection whose other end has taken nothing for this long: Pingora waits
/// without a deadline of its own while it flushes a head or the end of a body.
pub fn given_up_after(patience: Duration) -> TcpKeepalive {
    TcpKeepalive {
        idle: Duration::from_secs(60),
        interval: Duration::from_secs(10),
        count: 3,
        #[cfg(target_os = "linux")]
        user_timeout: patience,
    }
}

/// Pingora has one time-out for all reads. `first_byte` is it; a route whose `idle` is a multiple
/// of its `first_byte` streams (server-sent events), and pauses in its body are normal.
fn read_timeout(timeouts: &Timeouts) -> Duration {
    if timeouts.idle >= timeouts.first_byte * 4 {
        timeouts.idle
    } else {
        timeouts.first_byte
    }
}

/// The answer that was forwarded, if one was. A forwarded `100 Continue` is none yet.
pub fn answered(session: &Session) -> Option<&ResponseHeader> {
    session
        .response_written()
        .filter(|head| !head.status.is_informational() || head.status == 101)
}

/// Whether the worker did not answer in time.
pub fn is_slow(error: &Error) -> bool {
    matches!(error.esource(), ErrorSource::Upstream)
        && matches!(
            error.etype(),
            ErrorType::ReadTimedout | ErrorType::WriteTimedout
        )
}

/// Whether a request may be sent a second time: the method is idempotent, its body can be replayed,
/// the client has seen nothing, and the worker broke off rather than being slow.
pub fn may_repeat(session: &Session, error: &Error) -> bool {
    matches!(error.esource(), ErrorSource::Upstream)
        && !is_slow(error)
        && session.req_header().method.is_idempotent()
        && !session.as_ref().retry_buffer_truncated()
        && answered(session).is_none()
}

/// What a failed exchange is to the client; none where the client itself is gone.
pub fn refusal(error: &Error, service: &str) -> Option<Refusal> {
    use ErrorType::*;
    match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, ReadTimedout) => Some(Refusal::body_timeout()),
        (ErrorSource::Downstream, ReadError | WriteError | WriteTimedout | ConnectionClosed) => {
            None
        }
        (ErrorSource::Downstream, _) => Some(Refusal::broken_body()),
        (ErrorSource::Upstream, ConnectTimedout | ReadTimedout | WriteTimedout) => {
            Some(Refusal::upstream_timeout(service))
        }
        (
            ErrorSource::Upstream,
            ConnectRefused | ConnectNoRoute | ConnectError | SocketError | BindError,
        ) => Some(Refusal::none_available(service, "it cannot be reached")),
        (ErrorSource::Upstream, _) => Some(Refusal::upstream_failed(service)),
        (ErrorSource::Internal | ErrorSource::Unset, _) => Some(Refusal::internal()),
    }
}
