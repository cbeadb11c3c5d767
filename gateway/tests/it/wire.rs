//! A client that sends raw bytes and checks the response.

use std::net::SocketAddr;
use std::time::Duration;

use contract::problem::{Kind, MEDIA_TYPE};
use http::HeaderMap;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than anything here takes. It only ends a wait that would never end.
const DEADLINE: Duration = Duration::from_secs(20);

/// One connection to a gateway.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    received: Vec<u8>,
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            received: Vec::new(),
        }
    }

    /// Sends all bytes, or as many as the gateway accepts before it closes.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = timeout(DEADLINE, self.stream.write_all(bytes.as_ref())).await;
        sent.expect("the gateway takes nothing any more").ok();
    }

    /// Sends all bytes. The gateway must not close before.
    pub(crate) async fn stream_all(&mut self, bytes: &[u8]) {
        let sent = timeout(DEADLINE, self.stream.write_all(bytes)).await;
        sent.expect("the gateway takes nothing any more").unwrap();
    }

    /// The next response: its head, and a body of declared length.
    pub(crate) async fn answer(&mut self) -> Answer {
        let end = loop {
            let mut pairs = self.received.windows(4);
            match pairs.position(|four| four == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None => self.more().await,
            }
        };
        let head = String::from_utf8(self.received.drain(..end).collect()).unwrap();
        let (first, lines) = head.split_once("\r\n").unwrap();
        let status = first.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = HeaderMap::new();
        for line in lines.split("\r\n").filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").unwrap();
            let name: http::HeaderName = name.parse().unwrap();
            headers.append(name, value.parse().unwrap());
        }
        let mut answer = Answer {
            status,
            headers,
            body: Vec::new(),
        };
        let length = answer.header("content-length").unwrap_or("0");
        let length: usize = length.parse().unwrap();
        while self.received.len() < length {
            self.more().await;
        }
        answer.body = self.received.drain(..length).collect();
        answer
    }

    async fn more(&mut self) {
        let read = timeout(DEADLINE, self.stream.read_buf(&mut self.received));
        let read = read.await.expect("no answer").unwrap_or(0);
        let text = || String::from_utf8_lossy(&self.received).into_owned();
        assert!(read > 0, "closed after {:?}", text());
    }

    /// The bytes until the gateway closes the connection; panics unless it does.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        loop {
            let read = timeout(DEADLINE, self.stream.read_buf(&mut self.received));
            match read.await.expect("the connection stayed open") {
                Ok(0) | Err(_) => return std::mem::take(&mut self.received),
                Ok(_) => {}
            }
        }
    }

    /// Asserts that the gateway closes the connection without sending more.
    pub(crate) async fn is_closed(&mut self) {
        let rest = self.rest().await;
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }
}

/// Sends one request, and asserts that the response closes the connection.
#[track_caller]
pub(crate) fn refused(
    address: SocketAddr,
    request: impl AsRef<[u8]>,
) -> impl Future<Output = Answer> {
    let shown = request.as_ref().escape_ascii().to_string();
    async move {
        let mut wire = Wire::connect(address).await;
        wire.send(request.as_ref()).await;
        let answer = wire.answer().await;
        assert_eq!(answer.header("connection"), Some("close"), "{shown}");
        wire.is_closed().await;
        answer
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a header, which must not be repeated.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let values: Vec<_> = self.headers.get_all(name).iter().collect();
        assert!(values.len() <= 1, "{name} {values:?}");
        values.first().map(|value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Asserts that this is a refusal, in the format of all refusals. Returns its detail.
    #[track_caller]
    pub(crate) fn is_problem(&self, kind: Kind, instance: &str) -> String {
        assert_eq!(self.status, kind.status().as_u16(), "{self:?}");
        assert_eq!(self.header("content-type"), Some(MEDIA_TYPE), "{self:?}");
        assert_eq!(self.header("cache-control"), Some("no-store"), "{self:?}");
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(body["type"], kind.uri());
        assert_eq!(body["title"], kind.title());
        assert_eq!(body["status"], kind.status().as_u16());
        assert_eq!(body["instance"], instance);
        let id = self.header("x-request-id").unwrap();
        assert!(id.len() >= 8);
        assert_eq!(body["request_id"], id);
        let detail = body["detail"].as_str().unwrap();
        assert!(detail.ends_with('.'), "{detail}");
        let mut members: Vec<&String> = body.as_object().unwrap().keys().collect();
        members.sort();
        assert_eq!(
            members,
            [
                "detail",
                "instance",
                "request_id",
                "status",
                "title",
                "type"
            ]
        );
        detail.to_owned()
    }
}
