//! A test worker that returns the heads, bodies and trailers it receives, and sends headers that no
//! worker should send. So a test sees what the gateway removes in either direction.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// 64 MiB in which no two buffer-sized sections are equal.
pub(crate) static LARGE: LazyLock<Bytes> = LazyLock::new(|| {
    let words = (0..8 << 20).map(|n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    words.flat_map(u64::to_le_bytes).collect()
});
const CHUNK: usize = 100_000;

type Body = BoxBody<Bytes, hyper::Error>;

/// Headers that must never pass from a worker to a client.
pub(crate) const IDENTITY: [&str; 9] = [
    "x-user-id",
    "x-session-id",
    "x-token-expires",
    "x-client-address",
    "x-gateway-time",
    "x-gateway-signature",
    "x-claim-plan",
    "x_user_id",
    "x-forwarded-for",
];

#[derive(Clone, Default)]
struct State {
    requests: Arc<AtomicUsize>,
    next_event: Arc<Notify>,
}

pub(crate) struct Echo {
    address: SocketAddr,
    state: State,
    _server: JoinSet<()>,
}

impl Echo {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = State::default();
        let mut server = JoinSet::new();
        server.spawn(serve(listener, state.clone()));
        Self {
            address,
            state,
            _server: server,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests it received, without health checks.
    pub(crate) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Lets the open event stream send its next event.
    pub(crate) fn send_next_event(&self) {
        self.state.next_event.notify_one();
    }
}

async fn serve(listener: TcpListener, state: State) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connection(stream, state.clone()));
    }
}

async fn connection(stream: TcpStream, state: State) {
    let answer = service_fn(|request| {
        let state = state.clone();
        async move { Ok::<_, Infallible>(answer(request, state).await) }
    });
    // Some tests break the connection on purpose.
    http1::Builder::new()
        .serve_connection(TokioIo::new(stream), answer)
        .await
        .ok();
}

async fn answer(request: Request<Incoming>, state: State) -> Response<Body> {
    let path = request.uri().path().to_owned();
    if path != "/readyz" {
        state.requests.fetch_add(1, Ordering::SeqCst);
    }
    match path.as_str() {
        "/api/echo/large" if request.method() == Method::POST => compare(request).await,
        "/api/echo/large" => large(),
        "/api/echo/claims" => claims(),
        "/api/echo/events" => events(state),
        _ => reflect(request).await,
    }
}

/// Answers with the request as received: every header in order, and the trailers.
async fn reflect(request: Request<Incoming>) -> Response<Body> {
    let (head, mut body) = request.into_parts();
    let mut trailers = HeaderMap::new();
    let mut length = 0;
    while let Some(Ok(frame)) = body.frame().await {
        match frame.into_data() {
            Ok(data) => length += data.len(),
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    let target = head.uri.path_and_query().map(ToString::to_string);
    let seen = json!({
        "method": head.method.as_str(),
        "target": target,
        "headers": pairs(&head.headers),
        "trailers": pairs(&trailers),
        "body_bytes": length,
    });
    whole(seen.to_string())
}

fn pairs(headers: &HeaderMap) -> Vec<Value> {
    headers
        .iter()
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect()
}

/// Answers how many bytes of the large body arrived, and whether they are unchanged.
async fn compare(request: Request<Incoming>) -> Response<Body> {
    let mut body = request.into_body();
    let (mut bytes, mut same) = (0, true);
    while let Some(Ok(frame)) = body.frame().await {
        let data = frame.into_data().unwrap_or_default();
        same &= LARGE.get(bytes..bytes + data.len()) == Some(&data[..]);
        bytes += data.len();
    }
    whole(json!({"bytes": bytes, "same": same}).to_string())
}

/// The large body, chunked.
fn large() -> Response<Body> {
    let chunks = (0..LARGE.len()).step_by(CHUNK).map(|from| {
        let chunk = LARGE.slice(from..LARGE.len().min(from + CHUNK));
        Ok::<_, hyper::Error>(Frame::data(chunk))
    });
    Response::new(BodyExt::boxed(StreamBody::new(stream::iter(chunks))))
}

fn claims() -> Response<Body> {
    let mut response = whole("{}".to_owned());
    for name in IDENTITY {
        let name = http::HeaderName::from_static(name);
        response
            .headers_mut()
            .insert(name, "forged".parse().expect("a value"));
    }
    response
        .headers_mut()
        .insert("x-harmless", "yes".parse().expect("a value"));
    response
}

/// `data: 0` at once, then one event for each [`Echo::send_next_event`].
fn events(state: State) -> Response<Body> {
    let events = stream::unfold(0, move |count| {
        let next_event = state.next_event.clone();
        async move {
            if count > 0 {
                next_event.notified().await;
            }
            let frame = Frame::data(Bytes::from(format!("data: {count}\n\n")));
            Some((Ok::<_, hyper::Error>(frame), count + 1))
        }
    });
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(events)));
    let kind = "text/event-stream".parse().expect("a value");
    response.headers_mut().insert("content-type", kind);
    response
}

fn whole(text: String) -> Response<Body> {
    let body = Full::from(text).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    let kind = "application/json".parse().expect("a value");
    response.headers_mut().insert("content-type", kind);
    response
}
