//! Refusals: the responses that the gateway itself gives, in one format, written in one place.
//!
//! Admission and the proxy phases return a [`Refusal`]; [`Refusal::respond`] is the only writer. The
//! connection stays open if its framing is intact, so that a refused client need not reconnect.

use std::time::Duration;

use contract::identity::REQUEST_ID;
use contract::problem::{Kind, MEDIA_TYPE, Problem};
use http::{HeaderValue, header};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;
use tokio::time::timeout;

use crate::auth::AuthError;
use crate::limits::{Snapshot, headers};
use crate::request::canonical::Malformed;
use crate::request::route::NotRouted;

/// Bytes. A request body of at most this size is read and discarded, so that the connection can stay
/// open.
const MAX_DISCARDED_BODY: u64 = 64 << 10;

/// How long a refused client may go on sending before its connection is closed.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of the path that a response repeats. The path is ASCII.
pub(crate) const MAX_INSTANCE: usize = 1024;

/// Why the gateway does not forward a request, and how it answers.
#[derive(Debug, Clone)]
pub struct Refusal {
    problem: Problem,
    /// The connection must be closed, because its framing can no longer be trusted.
    close: bool,
}

impl Refusal {
    fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Problem::new(kind, detail).into()
    }

    /// Closes the connection after the response.
    pub(crate) fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// For CONNECT and TRACE, which are not served anywhere.
    pub fn method_not_served() -> Self {
        let allow = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        Problem::new(Kind::MethodNotAllowed, "This method is not served here.")
            .with_header(header::ALLOW, allow)
            .into()
    }

    pub fn uri_too_long(max: usize) -> Self {
        let detail = format!("The request target is longer than {max} bytes.");
        Self::new(Kind::UriTooLong, detail).closing()
    }

    pub fn header_too_large(max_bytes: usize, max_headers: usize) -> Self {
        let detail = format!(
            "The request's head is larger than {max_bytes} bytes or has more than {max_headers} headers."
        );
        Self::new(Kind::HeaderTooLarge, detail).closing()
    }

    pub fn payload_too_large(max: u64) -> Self {
        let detail = format!("The body is larger than the {max} bytes allowed here.");
        Self::new(Kind::PayloadTooLarge, detail)
    }

    pub fn rate_limited(snapshots: &[Snapshot]) -> Self {
        let mut problem = Problem::new(
            Kind::RateLimited,
            "The rate limit is used up. Wait as long as Retry-After says.",
        );
        for (name, value) in [
            (headers::RATE_LIMIT_POLICY, headers::policy(snapshots)),
            (headers::RATE_LIMIT, headers::limit(snapshots)),
            (header::RETRY_AFTER, headers::retry_after(snapshots)),
        ] {
            if let Some(value) = value {
                problem = problem.with_header(name, value);
            }
        }
        problem.into()
    }

    /// The caller has as many concurrent requests as its policy allows.
    pub fn too_many_in_flight(max: u32) -> Self {
        let detail = format!(
            "{max} of your requests are under way, which is the most at one time. Wait until one has ended."
        );
        Problem::new(Kind::RateLimited, detail)
            .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
            .into()
    }

    /// Redis is away, and a policy has `on_redis_failure: deny`.
    pub fn limiter_unavailable() -> Self {
        Problem::unavailable(
            "The rate limit cannot be checked at the moment.",
            Duration::from_secs(1),
        )
        .into()
    }

    /// No replica can take the request: none is healthy, or the service has too many requests.
    pub fn none_available(service: &str, why: &str) -> Self {
        let detail = format!("The service `{service}` cannot take this request now: {why}.");
        Problem::unavailable(detail, Duration::from_secs(1)).into()
    }

    pub fn upstream_failed(service: &str) -> Self {
        let detail = format!("The service `{service}` broke off or answered something unreadable.");
        Self::new(Kind::UpstreamFailed, detail)
    }

    pub fn upstream_timeout(service: &str) -> Self {
        let detail = format!("The service `{service}` did not answer in time.");
        Self::new(Kind::UpstreamTimeout, detail)
    }

    pub fn head_timeout() -> Self {
        Self::new(
            Kind::RequestTimeout,
            "The request's head did not arrive in time.",
        )
        .closing()
    }

    pub fn body_timeout() -> Self {
        Self::new(
            Kind::RequestTimeout,
            "The request's body did not arrive in time.",
        )
        .closing()
    }

    /// The framing of the body is broken.
    pub fn broken_body() -> Self {
        Self::new(
            Kind::MalformedRequest,
            "The request's body is not framed as HTTP asks.",
        )
        .closing()
    }

    pub fn internal() -> Self {
        Problem::internal().into()
    }

    pub fn status(&self) -> u16 {
        self.problem.status().as_u16()
    }

    pub fn kind(&self) -> Kind {
        self.problem.kind()
    }

    /// Writes the response. The request's path becomes `instance`.
    pub async fn respond(&self, session: &mut Session, request_id: &str) -> Result<()> {
        let path = session.req_header().uri.path();
        let instance = path.get(..MAX_INSTANCE).unwrap_or(path).to_owned();
        let body = self.problem.body(&instance, request_id);
        let mut head = ResponseHeader::build(self.status(), Some(8))?;
        head.insert_header(header::CONTENT_TYPE, MEDIA_TYPE)?;
        head.insert_header(header::CONTENT_LENGTH, body.len())?;
        head.insert_header(header::CACHE_CONTROL, "no-store")?;
        if let Ok(id) = HeaderValue::from_str(request_id) {
            head.insert_header(REQUEST_ID, id)?;
        }
        for (name, value) in self.problem.headers() {
            head.append_header(name.clone(), value.clone())?;
        }
        if self.close {
            session.set_keepalive(None);
        } else if is_discardable(session) {
            let downstream = session.as_downstream_mut();
            downstream.set_close_on_response_before_downstream_finish(false);
        }
        session.write_response_header(Box::new(head), false).await?;
        session.write_response_body(Some(body), true).await?;
        if !self.close && !discard_body(session).await {
            session.set_keepalive(None);
        }
        Ok(())
    }
}

/// Whether the rest of the request's body is small, of known length and already being sent.
fn is_discardable(session: &Session) -> bool {
    let headers = &session.req_header().headers;
    if headers.contains_key(header::TRANSFER_ENCODING) || headers.contains_key(header::EXPECT) {
        return false;
    }
    match headers.get(header::CONTENT_LENGTH) {
        None => true,
        Some(length) => length
            .to_str()
            .ok()
            .and_then(|digits| digits.parse::<u64>().ok())
            .is_some_and(|length| length <= MAX_DISCARDED_BODY),
    }
}

/// Reads and discards what the client still sends. Closing a connection with unread bytes would reset
/// it, and the client might lose the response (behind nginx it would get a 502). True if the body was
/// read to its end.
async fn discard_body(session: &mut Session) -> bool {
    let downstream = session.as_downstream_mut();
    if downstream.is_body_done() {
        return true;
    }
    // A client that asked first (`Expect`) and was refused sends no body.
    if downstream.req_header().headers.contains_key(header::EXPECT) {
        return false;
    }
    let reading = async {
        loop {
            match downstream.read_request_body().await {
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    };
    timeout(DISCARD_TIMEOUT, reading).await.unwrap_or(false)
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            close: false,
        }
    }
}

/// Closes the connection: after a malformed request, nothing on it can be trusted.
impl From<Malformed> for Refusal {
    fn from(why: Malformed) -> Self {
        Self::new(Kind::MalformedRequest, why.detail()).closing()
    }
}

impl From<NotRouted> for Refusal {
    fn from(why: NotRouted) -> Self {
        match why {
            NotRouted::NoService => Self::new(Kind::NotFound, "Nothing is served at this path."),
            NotRouted::MethodNotAllowed => Problem::new(
                Kind::MethodNotAllowed,
                "Only GET and HEAD are allowed here.",
            )
            .with_header(header::ALLOW, HeaderValue::from_static("GET, HEAD"))
            .into(),
        }
    }
}

impl From<AuthError> for Refusal {
    fn from(why: AuthError) -> Self {
        let detail = sentence(why);
        let mut problem = match why {
            AuthError::KeysUnavailable | AuthError::RevocationUnavailable => {
                Problem::new(Kind::ServiceUnavailable, detail)
            }
            AuthError::TooManyFailures => Problem::new(Kind::RateLimited, detail),
            AuthError::Missing
            | AuthError::Invalid(_)
            | AuthError::Expired
            | AuthError::Revoked => Problem::new(Kind::Unauthenticated, detail),
        };
        if let Some(challenge) = why.www_authenticate() {
            problem = problem.with_header(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(seconds) = why.retry_after() {
            problem = problem.with_header(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        problem.into()
    }
}

/// The error as a sentence, and what to do about it.
fn sentence(why: AuthError) -> String {
    let text = why.to_string();
    let (first, rest) = text.split_at(1);
    let advice = match why {
        AuthError::KeysUnavailable
        | AuthError::RevocationUnavailable
        | AuthError::TooManyFailures => "Try again later.",
        AuthError::Missing | AuthError::Invalid(_) | AuthError::Expired | AuthError::Revoked => {
            "Log in and send `Authorization: Bearer ACCESS_TOKEN`."
        }
    };
    format!("{}{rest}. {advice}", first.to_ascii_uppercase())
}
