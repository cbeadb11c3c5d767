//! Fetches a key set over HTTP, bounded in time and size.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{StatusCode, Uri};
use runtime::client::Client;

const DEADLINE: Duration = Duration::from_secs(2);
pub(super) const MAX_BYTES: usize = 64 * 1024;

/// Why there is no newer key set.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    #[error("the key set cannot be fetched")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the server of the key set answered {0}")]
    Refused(StatusCode),
    #[error("the key set is longer than 64 KiB")]
    TooLong,
    #[error("the key set has more than 64 keys")]
    TooMany,
    #[error("the key set is not a JWK set")]
    Malformed(#[source] serde_json::Error),
    #[error("the key set has no key for the configured algorithms")]
    NothingUsable,
}

/// Fetches the document at a URI.
#[async_trait]
pub trait FetchJwks: Send + Sync {
    async fn fetch(&self, uri: &Uri) -> Result<Bytes, KeySetError>;
}

/// Fetches with the platform's HTTP client.
pub struct HttpJwks(Client);

impl HttpJwks {
    pub fn new(client: Client) -> Self {
        Self(client)
    }
}

#[async_trait]
impl FetchJwks for HttpJwks {
    async fn fetch(&self, uri: &Uri) -> Result<Bytes, KeySetError> {
        let answer = self.0.get(uri, DEADLINE, MAX_BYTES).await;
        let answer = answer.map_err(|why| KeySetError::Unreachable(why.into()))?;
        match answer.status {
            StatusCode::OK => Ok(answer.body),
            other => Err(KeySetError::Refused(other)),
        }
    }
}

/// Fetches within the deadline, whatever the implementation of [`FetchJwks`] does.
pub(super) async fn within_deadline(
    fetch: &dyn FetchJwks,
    uri: &Uri,
) -> Result<Bytes, KeySetError> {
    tokio::time::timeout(DEADLINE, fetch.fetch(uri))
        .await
        .unwrap_or_else(|late| Err(KeySetError::Unreachable(late.into())))
}
