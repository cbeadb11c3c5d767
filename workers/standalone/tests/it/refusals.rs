//! The gateway refuses bad requests itself: nothing reaches a worker, the answer is a problem, and the
//! connection stays open if the framing was valid.

use http::{Method, Request};
use http_body_util::Full;
use serde_json::Value;
use testkit::raw;

use crate::connection::Connection;
use crate::test_platform::TestPlatform;

struct Refusal {
    name: &'static str,
    lines: String,
    status: u16,
    /// The problem type. Empty if Pingora's own parser refuses the request, before any hook can add a
    /// body.
    kind: &'static str,
}

fn refusal(
    name: &'static str,
    lines: impl Into<String>,
    status: u16,
    kind: &'static str,
) -> Refusal {
    Refusal {
        name,
        lines: lines.into(),
        status,
        kind,
    }
}

fn all(token: &str) -> Vec<Refusal> {
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n");
    let malformed = |name, lines: String| refusal(name, lines, 400, "malformed-request");
    let too_large = |name, lines: String| refusal(name, lines, 413, "payload-too-large");
    let post = |lines: &str| format!("{}{lines}", get("/api/echo").replacen("GET", "POST", 1));
    vec![
        refusal("no such path", get("/nowhere"), 404, "not-found"),
        refusal(
            "a prefix is whole segments",
            get("/api/echoes"),
            404,
            "not-found",
        ),
        refusal(
            "the JWKS is only read",
            get("/.well-known/jwks.json").replacen("GET", "POST", 1),
            405,
            "method-not-allowed",
        ),
        refusal(
            "TRACE",
            get("/api/echo").replacen("GET", "TRACE", 1),
            405,
            "method-not-allowed",
        ),
        malformed("an empty segment", get("/api//echo")),
        malformed("a dot segment", get("/api/./echo")),
        malformed("dots up", get("/api/echo/../tasks")),
        malformed("dots up, encoded", get("/api/echo/%2e%2E/tasks")),
        malformed("a slash, encoded", get("/api/echo%2ftasks")),
        malformed("a backslash", get("/api/echo\\tasks")),
        malformed("a backslash, encoded", get("/api/echo%5ctasks")),
        malformed("a zero byte, encoded", get("/api/echo%00")),
        malformed("a path parameter", get("/api/echo;x/tasks")),
        malformed("half an escape", get("/api/echo%2")),
        malformed(
            "identity with an underscore",
            get("/api/echo") + "x_user_id: forged\r\n",
        ),
        malformed(
            "two authorizations",
            get("/api/echo") + "Authorization: Bearer x\r\n",
        ),
        refusal(
            "two lengths",
            post("Content-Length: 1\r\nContent-Length: 2\r\n\r\nx"),
            400,
            "",
        ),
        malformed(
            "length and chunks",
            post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"),
        ),
        malformed(
            "an unknown coding",
            post("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n"),
        ),
        too_large(
            "a large body, declared",
            post("Content-Length: 65537\r\n\r\nx"),
        ),
        refusal(
            "no token",
            "GET /api/echo HTTP/1.1\r\n",
            401,
            "unauthenticated",
        ),
        refusal(
            "another scheme",
            "GET /api/echo HTTP/1.1\r\nAuthorization: Basic YTpi\r\n",
            401,
            "unauthenticated",
        ),
    ]
}

fn parse(reply: &[u8]) -> (u16, Value) {
    let text = String::from_utf8_lossy(reply);
    let status = text
        .get(9..12)
        .and_then(|code| code.parse().ok())
        .unwrap_or_default();
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    let json = body.and_then(|body| serde_json::from_str(&body).ok());
    (status, json.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_reaches_no_worker_and_is_answered_as_a_problem() {
    let test = TestPlatform::start().await;
    let user = test.user().await;
    let gateway = test.platform.gateways[0].http;
    for refusal in all(&user.token) {
        let (request, headers) = refusal.lines.split_once("\r\n").unwrap();
        let separator = if headers.contains("\r\n\r\n") {
            ""
        } else {
            "\r\n"
        };
        let bytes =
            format!("{request}\r\nHost: sluice\r\nConnection: close\r\n{headers}{separator}");
        let reply = raw(gateway, bytes).await;
        let (status, problem) = parse(&reply);
        let said = format!("{}: {}", refusal.name, String::from_utf8_lossy(&reply));
        assert_eq!(status, refusal.status, "{said}");
        if !refusal.kind.is_empty() {
            assert_eq!(
                problem["type"],
                format!("/problems/{}", refusal.kind),
                "{said}"
            );
            assert_eq!(problem["status"], refusal.status, "{said}");
        }
    }
    assert_eq!(test.echo.requests(), 0);
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_over_the_cap_is_refused_while_it_streams() {
    let test = TestPlatform::start().await;
    let user = test.user().await;
    let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
    let request = |token: &str, chunks: usize| {
        format!(
            "POST /api/echo HTTP/1.1\r\nHost: sluice\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
            chunk.repeat(chunks)
        )
    };
    let gateway = test.platform.gateways[0].http;
    let (status, _) = parse(&raw(gateway, request(&user.token, 2)).await);
    assert_eq!(status, 200, "64 KiB are allowed");
    let (status, problem) = parse(&raw(gateway, request(&user.token, 3)).await);
    assert_eq!(
        (status, &problem["type"]),
        (413, &Value::from("/problems/payload-too-large"))
    );
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_client_keeps_its_connection() {
    let test = TestPlatform::start().await;
    let user = test.user().await;
    let mut connection = Connection::open(test.platform.gateways[0].http).await;
    let request = |method: Method, credentials: &str, body: &'static str| {
        let request = Request::builder()
            .method(method)
            .uri("/api/echo")
            .header("host", "sluice");
        let request = match credentials {
            "" => request,
            credentials => request.header("authorization", credentials),
        };
        request.body(Full::from(body)).unwrap()
    };
    let mut tampered = user.token.clone();
    tampered.replace_range(tampered.len() - 8.., "AAAAAAAA");
    let bearer = |token: &str| format!("Bearer {token}");
    for (credentials, asks) in [
        ("", "Bearer"),
        ("Basic YTpi", "Bearer"),
        (&bearer("garbage"), "Bearer error=\"invalid_token\""),
        (&bearer("a.b.c"), "Bearer error=\"invalid_token\""),
        (&bearer(&tampered), "Bearer error=\"invalid_token\""),
    ] {
        let response = connection.send(request(Method::GET, credentials, "")).await;
        assert_eq!(response.status(), 401, "{credentials}: {response:?}");
        let value = response.headers()["www-authenticate"].to_str().unwrap();
        assert!(value.starts_with(asks), "{credentials}: {value}");
    }
    // A small body of a refused request is read and discarded.
    let small = "a small body";
    let response = connection
        .send(request(Method::POST, &bearer("garbage"), small))
        .await;
    assert_eq!(response.status(), 401);
    let response = connection
        .send(request(Method::GET, &bearer(&user.token), ""))
        .await;
    assert_eq!(
        response.status(),
        200,
        "the same connection serves an authenticated user"
    );
    assert_eq!(test.echo.requests(), 1);
    test.finish().await;
}
