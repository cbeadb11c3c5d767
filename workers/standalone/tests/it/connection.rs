//! One connection under the control of the test, to check whether the server keeps it open.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _driver: JoinSet<()>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address)
            .await
            .expect("something listens");
        let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("a handshake");
        let mut driver = JoinSet::new();
        driver.spawn(async {
            connection.await.ok();
        });
        Self {
            sender,
            _driver: driver,
        }
    }

    /// Sends a request and reads the whole answer. Panics if the server has closed the connection.
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        let exchange = async {
            self.sender
                .ready()
                .await
                .expect("the connection is still open");
            let response = self.sender.send_request(request).await.expect("an answer");
            let (head, mut body) = response.into_parts();
            let mut bytes = Vec::new();
            while let Some(frame) = body.frame().await {
                bytes.extend(
                    frame
                        .expect("a whole answer")
                        .into_data()
                        .unwrap_or_default(),
                );
            }
            Response::from_parts(head, Bytes::from(bytes))
        };
        tokio::time::timeout(DEADLINE, exchange)
            .await
            .expect("an answer in time")
    }
}
