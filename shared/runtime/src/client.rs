//! A small HTTP/1.1 client for calls inside the platform. It pools connections, and every call has a deadline
//! and a bound on its response. Cleartext only: the network between the processes is private.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::body::{BodyError, read_body};

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the server cannot be reached")]
    Unreachable(#[source] legacy::Error),
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("the answer could not be read")]
    Body(#[from] BodyError),
    #[error("the request is not well formed")]
    Request(#[from] http::Error),
}

impl ClientError {
    /// Whether no connection could be made at all.
    pub fn is_connect(&self) -> bool {
        matches!(self, Self::Unreachable(error) if error.is_connect())
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client(legacy::Client<HttpConnector, Full<Bytes>>);

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Client {
    pub fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(2)));
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(20))
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self(client)
    }

    /// Sends a GET; `deadline` and `max` bytes bound its answer.
    pub async fn get(
        &self,
        uri: &Uri,
        deadline: Duration,
        max: usize,
    ) -> Result<Answer, ClientError> {
        let request = Request::builder()
            .method(Method::GET)
            .uri(uri)
            .body(Full::default())?;
        self.call(request, deadline, max).await
    }

    /// Sends a GET with these headers; `deadline` and `max` bytes bound its answer.
    pub async fn get_with(
        &self,
        uri: &Uri,
        headers: HeaderMap,
        deadline: Duration,
        max: usize,
    ) -> Result<Answer, ClientError> {
        let mut request = Request::get(uri).body(Full::default())?;
        *request.headers_mut() = headers;
        self.call(request, deadline, max).await
    }

    /// Sends a request and reads the whole answer: at most `max` bytes, within `deadline` in all.
    pub async fn call(
        &self,
        request: Request<Full<Bytes>>,
        deadline: Duration,
        max: usize,
    ) -> Result<Answer, ClientError> {
        let call = async {
            let (head, body) = self.send(request, deadline).await?.into_parts();
            Ok(Answer {
                status: head.status,
                headers: head.headers,
                body: read_body(body, max, deadline).await?,
            })
        };
        tokio::time::timeout(deadline, call)
            .await
            .map_err(|_| ClientError::TimedOut(deadline))?
    }

    /// Sends a request whose answer streams; `deadline` bounds the wait for its head.
    pub async fn send(
        &self,
        request: Request<Full<Bytes>>,
        deadline: Duration,
    ) -> Result<http::Response<Incoming>, ClientError> {
        tokio::time::timeout(deadline, self.0.request(request))
            .await
            .map_err(|_| ClientError::TimedOut(deadline))?
            .map_err(ClientError::Unreachable)
    }
}
