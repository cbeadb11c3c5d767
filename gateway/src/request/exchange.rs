//! One attempt at a replica: whether it may be retried, and what its failure means to the client.

use http::{Method, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorSource, ErrorType};
use pingora_proxy::Session;

use super::refusal::Refusal;

/// The head of the response that was sent to the client, if any. `100 Continue` does not count.
pub fn sent_response(session: &Session) -> Option<&ResponseHeader> {
    session
        .response_written()
        .filter(|head| !head.status.is_informational() || head.status == 101)
}

/// Whether the worker did not answer in time.
pub fn timed_out(error: &Error) -> bool {
    matches!(error.esource(), ErrorSource::Upstream)
        && matches!(
            error.etype(),
            ErrorType::ReadTimedout | ErrorType::WriteTimedout
        )
}

/// Whether a request may be sent a second time: its method is idempotent, its body can be replayed,
/// nothing was sent to the client, and the worker failed for another reason than being slow.
pub fn may_retry(session: &Session, error: &Error) -> bool {
    matches!(error.esource(), ErrorSource::Upstream)
        && !timed_out(error)
        && session.req_header().method.is_idempotent()
        && !session.as_ref().retry_buffer_truncated()
        && sent_response(session).is_none()
}

/// The refusal for a failed exchange; none if the client itself is gone.
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

/// Whether the response is an event stream. It never ends by itself and its client resumes it
/// elsewhere, so waiting for it would only delay the drain.
pub(crate) fn is_subscription(request: &RequestHeader, answer: &ResponseHeader) -> bool {
    let kind = answer.headers.get(header::CONTENT_TYPE);
    request.method == Method::GET
        && kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}
