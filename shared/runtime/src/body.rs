//! Reads whole bodies, within a bound and a deadline.

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
    Broken(#[source] crate::error::BoxError),
}

/// Reads a whole body of at most `max` bytes within `deadline`. No other code collects a body.
pub async fn read_body<B>(
    body: B,
    max: usize,
    deadline: std::time::Duration,
) -> Result<Bytes, BodyError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<crate::error::BoxError>,
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
