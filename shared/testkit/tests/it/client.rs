//! The HTTP client of the test kit, against canned bytes.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use testkit::{Client, NoEvent, SendError, eventually, raw};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Answers one connection with these bytes after its head has arrived. Returns the address, a sender that closes
/// the connection, and a receiver of the request.
async fn canned(
    reply: &'static str,
) -> (SocketAddr, oneshot::Sender<()>, oneshot::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (close, closed) = oneshot::channel();
    let (seen, request) = oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
            stream.read_buf(&mut bytes).await.unwrap();
        }
        stream.write_all(reply.as_bytes()).await.unwrap();
        seen.send(String::from_utf8(bytes).unwrap()).ok();
        closed.await.ok();
    });
    (address, close, request)
}

#[tokio::test]
async fn a_request_carries_its_headers_and_body_and_the_reply_is_read_whole() {
    let (address, _close, request) =
        canned("HTTP/1.1 201 Created\r\nx-word: yes\r\ncontent-length: 7\r\n\r\n{\"a\":1}").await;
    let client = Client::new(format!("http://{address}"));
    let reply = client
        .post("/things?x=1")
        .bearer("t0ken")
        .json(&json!({"b": 2}))
        .send()
        .await;
    let reply = reply.expect(201);
    assert_eq!(reply.header("x-word"), Some("yes"));
    assert_eq!(reply.json(), json!({"a": 1}));
    let request = request.await.unwrap();
    assert!(
        request.starts_with("POST /things?x=1 HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains("authorization: Bearer t0ken\r\n"),
        "{request}"
    );
    assert!(
        request.contains("content-type: application/json\r\n"),
        "{request}"
    );
}

#[tokio::test]
#[should_panic(expected = "expected 200, got 404 Not Found to GET http://127.0.0.1")]
async fn an_unexpected_status_shows_the_reply() {
    let (address, _close, _) = canned("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
    Client::new(format!("http://{address}"))
        .get("/")
        .send()
        .await
        .expect(200);
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_at_the_deadline() {
    let (address, _close, _) = canned("").await;
    let client = Client::new(format!("http://{address}"));
    let sent = client
        .get("/")
        .deadline(Duration::from_millis(50))
        .try_send()
        .await;
    assert!(matches!(sent, Err(SendError::Late { .. })), "{sent:?}");
}

#[tokio::test]
async fn events_are_read_as_the_standard_has_them() {
    let (address, close, _) = canned(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n\
         : hello\n\nretry: 10\n\nid: 1\nevent: task.created.v1\ndata: {\"a\":1}\n\n\
         data: one\r\ndata:two\r\n\r\nid: 3\nevent: cut off\n",
    )
    .await;
    let client = Client::new(format!("http://{address}"));
    let mut events = client.get("/stream").sse().await;
    let event = events.next().await;
    assert_eq!(event.id.as_deref(), Some("1"));
    assert_eq!(event.event.as_deref(), Some("task.created.v1"));
    assert_eq!(event.json(), json!({"a": 1}));
    let event = events.next().await;
    assert_eq!(
        (event.id, event.event, event.data.as_str()),
        (None, None, "one\ntwo")
    );
    assert_eq!(events.comments(), 1);
    assert_eq!(
        events.next_within(Duration::from_millis(20)).await,
        Err(NoEvent::Silence)
    );
    drop(close);
    assert_eq!(
        events.next_within(Duration::from_secs(5)).await,
        Err(NoEvent::Ended)
    );
}

#[tokio::test]
async fn raw_bytes_go_out_as_they_are() {
    let (address, close, request) = canned("anything at all").await;
    drop(close);
    let reply = raw(address, "GET  / strange\r\n\r\n").await;
    assert_eq!(reply, b"anything at all");
    assert_eq!(request.await.unwrap(), "GET  / strange\r\n\r\n");
}

#[tokio::test]
#[should_panic(expected = "tests/it/client.rs")]
async fn what_never_happens_fails_at_the_callers_line() {
    eventually(Duration::from_millis(30), async || false).await;
}

#[tokio::test]
async fn what_happens_late_is_waited_for() {
    let mut asked = 0;
    let value = eventually(Duration::from_secs(5), || {
        asked += 1;
        let answer = if asked < 3 { Err("not yet") } else { Ok(asked) };
        async move { answer }
    });
    assert_eq!(value.await, 3);
}
