//! An HTTP client for tests: short to call, with a deadline on every request.

mod sse;

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub use self::sse::{EventStream, NoEvent, SseEvent};

const DEADLINE: Duration = Duration::from_secs(30);

/// A client of one server. It belongs to the runtime of the test that made it.
#[derive(Clone)]
pub struct Client {
    base: String,
    http: legacy::Client<HttpConnector, Full<Bytes>>,
}

impl Client {
    /// Makes a client of the server at a URL such as `http://127.0.0.1:8080`.
    pub fn new(base: impl Into<String>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let http = legacy::Client::builder(TokioExecutor::new()).build(connector);
        Self {
            base: base.into(),
            http,
        }
    }

    pub fn get(&self, path: &str) -> Request<'_> {
        self.request(Method::GET, path)
    }

    pub fn head(&self, path: &str) -> Request<'_> {
        self.request(Method::HEAD, path)
    }

    pub fn post(&self, path: &str) -> Request<'_> {
        self.request(Method::POST, path)
    }

    pub fn put(&self, path: &str) -> Request<'_> {
        self.request(Method::PUT, path)
    }

    pub fn patch(&self, path: &str) -> Request<'_> {
        self.request(Method::PATCH, path)
    }

    pub fn delete(&self, path: &str) -> Request<'_> {
        self.request(Method::DELETE, path)
    }

    pub fn options(&self, path: &str) -> Request<'_> {
        self.request(Method::OPTIONS, path)
    }

    pub fn request(&self, method: Method, path: &str) -> Request<'_> {
        Request {
            client: self,
            method,
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            deadline: DEADLINE,
        }
    }
}

/// A request that is being built.
pub struct Request<'a> {
    client: &'a Client,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
    deadline: Duration,
}

impl Request<'_> {
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    pub fn basic(self, user: &str, password: &str) -> Self {
        let credentials = BASE64.encode(format!("{user}:{password}"));
        self.header("authorization", format!("Basic {credentials}"))
    }

    /// Adds a header. A name that is added twice is sent twice.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        let value = HeaderValue::from_bytes(value.as_ref()).expect("a header value");
        self.headers.append(name, value);
        self
    }

    pub fn json(mut self, value: &impl Serialize) -> Self {
        self.headers
            .entry(header::CONTENT_TYPE)
            .or_insert(HeaderValue::from_static("application/json"));
        self.body = serde_json::to_vec(value).expect("a JSON value").into();
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The request's head as it is sent, with `more` headers at its end. For bodies that no client would send.
    pub fn head(&self, more: &[(&str, &str)]) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: test\r\n", self.method, self.path);
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        for (name, value) in &self.headers {
            head += &format!("{name}: {}\r\n", text(value));
        }
        for (name, value) in more {
            head += &format!("{name}: {value}\r\n");
        }
        head + "\r\n"
    }

    /// Sets how long the whole exchange may take; the default is 30 s.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sends the request and reads the whole reply. Panics if there is none.
    pub async fn send(self) -> Reply {
        self.try_send()
            .await
            .unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    pub async fn try_send(self) -> Result<Reply, SendError> {
        let (request, deadline) = (self.name(), self.deadline);
        tokio::time::timeout(deadline, self.exchange())
            .await
            .unwrap_or(Err(SendError::Late { request, deadline }))
    }

    /// Opens an event stream. Panics if the reply is not one.
    pub async fn sse(self) -> EventStream {
        let (request, deadline) = (self.name(), self.deadline);
        let opened =
            tokio::time::timeout(deadline, self.header("accept", "text/event-stream").open());
        let response = opened
            .await
            .unwrap_or(Err(SendError::Late {
                request: request.clone(),
                deadline,
            }))
            .unwrap_or_else(|error| panic!("{}", chain(&error)));
        let (head, body) = response.into_parts();
        let kind = head
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        assert!(
            head.status == StatusCode::OK
                && kind.is_some_and(|kind| kind.starts_with("text/event-stream")),
            "{request} is no event stream: {} {:?}",
            head.status,
            head.headers
        );
        EventStream::new(head.headers, body)
    }

    async fn exchange(self) -> Result<Reply, SendError> {
        let request = self.name();
        let (head, mut body) = self.open().await?.into_parts();
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|source| SendError::failed(&request, source))?;
            if let Ok(data) = frame.into_data() {
                bytes.extend_from_slice(&data);
            }
        }
        Ok(Reply {
            request,
            status: head.status,
            headers: head.headers,
            body: bytes.freeze(),
        })
    }

    async fn open(self) -> Result<http::Response<Incoming>, SendError> {
        let name = self.name();
        let mut request = http::Request::new(Full::new(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = format!("{}{}", self.client.base, self.path)
            .parse()
            .map_err(|source| SendError::failed(&name, source))?;
        *request.headers_mut() = self.headers;
        let sent = self.client.http.request(request).await;
        sent.map_err(|source| SendError::failed(&name, source))
    }

    fn name(&self) -> String {
        format!("{} {}{}", self.method, self.client.base, self.path)
    }
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("{request}: no whole reply within {deadline:?}")]
    Late { request: String, deadline: Duration },
    #[error("{request}: no whole reply")]
    Failed {
        request: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl SendError {
    fn failed(request: &str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed {
            request: request.to_owned(),
            source: source.into(),
        }
    }
}

fn chain(error: &(dyn Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| (*error).source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// A whole reply.
#[derive(Clone)]
pub struct Reply {
    request: String,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    /// Panics with the whole reply unless it has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert!(self.status == status, "expected {status}, got {self:?}");
        self
    }

    /// The value of the first header of this name, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        self.json_as()
    }

    #[track_caller]
    pub fn json_as<T: serde::de::DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not the expected JSON ({error}): {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            request,
            status,
            headers,
            ..
        } = self;
        write!(f, "{status} to {request}\n{headers:?}\n{}", self.text())
    }
}

/// Sends raw bytes, for requests that no client would make. Returns everything that the server sends until it
/// closes the connection, for at most 5 s, so send `Connection: close`.
pub async fn raw(address: SocketAddr, request: impl AsRef<[u8]>) -> Vec<u8> {
    let mut stream = TcpStream::connect(address)
        .await
        .unwrap_or_else(|error| panic!("failed to connect to {address}: {error}"));
    let mut reply = Vec::new();
    let exchange = async {
        // The server may answer and close before it has read everything; then its answer counts.
        stream.write_all(request.as_ref()).await.ok();
        while stream
            .read_buf(&mut reply)
            .await
            .is_ok_and(|length| length > 0)
        {}
    };
    tokio::time::timeout(Duration::from_secs(5), exchange)
        .await
        .ok();
    reply
}
