//! The one way workers speak HTTP: a route table of `async fn(cx, Request) -> Result<Reply, Problem>`,
//! served by hyper with bounds and deadlines everywhere.
//!
//! A connection is accepted in [`serve`], its requests are matched in [`routes`], the gateway's
//! signature is checked before any handler runs, and every refusal leaves as problem+json.

pub mod client;
pub mod idempotency;
pub mod json;
pub mod range;
pub mod reply;
pub mod request;
pub mod routes;
pub mod serve;
pub mod sse;
mod stall;

pub use idempotency::{Digest, Hasher, Idempotency, Once};
pub use json::{Object, Patch};
pub use range::Part;
pub use reply::{Reply, ReplyBody};
pub use request::{Anybody, IfMatch, Public, Query, Request};
pub use routes::Routes;
pub use serve::{Limits, Service, serve};

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the body did not arrive in time")]
    TimedOut,
    #[error("the body broke off")]
    Broken(#[source] crate::store::BoxError),
}

/// Reads a whole body of at most `max` bytes within `deadline`. The only place that collects one.
pub async fn read_body<B>(
    body: B,
    max: usize,
    deadline: std::time::Duration,
) -> Result<Bytes, BodyError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<crate::store::BoxError>,
{
    #[expect(clippy::disallowed_methods, reason = "this is the bounded reader")]
    let whole = Limited::new(body, max).collect();
    match tokio::time::timeout(deadline, whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge(max)),
        Ok(Err(error)) => Err(BodyError::Broken(error)),
        Err(_) => Err(BodyError::TimedOut),
    }
}
