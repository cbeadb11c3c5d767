//! nginx with the edge's own configuration. Its own errors have the platform's format, and it forwards
//! targets exactly as they were sent.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use testkit::{Client, Nginx, raw};

use crate::upstream::{Behaviour, Upstream, nobody};

const CONF: &str = include_str!("../../../infra/nginx/edge.conf");

/// The edge in front of these gateways, configured as by `make up`.
pub(crate) async fn edge(gateways: &[SocketAddr]) -> Nginx {
    changed_edge(gateways, "", &[]).await
}

/// The edge with more lines in its server block, and with some values replaced, so that tests need not
/// wait.
async fn changed_edge(gateways: &[SocketAddr], server: &str, values: &[(&str, &str)]) -> Nginx {
    let line = |rest: &str| {
        let line = |gateway: &SocketAddr| format!("server {gateway} {rest};\n");
        gateways.iter().map(line).collect::<String>()
    };
    let servers = line("max_fails=1 fail_timeout=1s") + &line("backup max_fails=0");
    Nginx::start(|port| {
        let mut http = CONF
            .replace("include upstream.conf;", &servers)
            .replace(
                "include listen.conf;",
                &format!("listen 127.0.0.1:{port};\n{server}"),
            )
            .replace(" tmp/", " tmp-");
        for (from, to) in values {
            assert!(http.contains(from), "{from}");
            http = http.replace(from, to);
        }
        format!("pid nginx.pid; error_log stderr; events {{}} http {{ {http} }}")
    })
    .await
}

/// Sends a request, given without its last line, and asserts that the response is this problem.
async fn refuses(nginx: &Nginx, request: &str, status: u16, kind: &str, instance: &str) -> String {
    let reply = raw(
        nginx.address(),
        format!("{request}connection: close\r\n\r\n"),
    )
    .await;
    let reply = String::from_utf8(reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    let head = head.to_lowercase();
    assert!(head.starts_with(&format!("http/1.1 {status} ")), "{reply}");
    assert!(
        head.contains("\r\ncontent-type: application/problem+json"),
        "{reply}"
    );
    let problem: Value = serde_json::from_str(body).unwrap();
    assert_eq!(problem["type"], format!("/problems/{kind}"), "{reply}");
    assert_eq!(problem["status"], status, "{reply}");
    assert_eq!(problem["instance"], instance, "{reply}");
    for member in ["title", "detail"] {
        assert!(
            problem[member].as_str().is_some_and(|text| text.len() > 5),
            "{reply}"
        );
    }
    let id = problem["request_id"].as_str().unwrap();
    assert!(
        head.contains(&format!("\r\nx-request-id: {id}\r\n")),
        "{reply}"
    );
    head
}

const GET: &str = "GET /api/things/1?secret=1 HTTP/1.1\r\nhost: x\r\n";
const PATH: &str = "/api/things/1";

#[tokio::test]
async fn what_the_edge_refuses_itself_is_a_problem() {
    let upstream = Upstream::start(Behaviour::Echo).await;
    let busy = "if ($arg_busy) { return 503; }";
    let values = [("client_max_body_size 0;", "client_max_body_size 10;")];
    let nginx = changed_edge(&[upstream.address], busy, &values).await;

    let request = format!("{GET}host: y\r\n");
    refuses(&nginx, &request, 400, "malformed-request", PATH).await;
    refuses(
        &nginx,
        "GET /\"quoted\" HTTP/1.1\r\nno colon\r\n",
        400,
        "malformed-request",
        "/",
    )
    .await;
    let request =
        format!("POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: a/b\r\ncontent-length: 11\r\n");
    refuses(&nginx, &request, 413, "payload-too-large", PATH).await;
    let request = format!("GET /{} HTTP/1.1\r\nhost: x\r\n", "a".repeat(17 << 10));
    refuses(&nginx, &request, 414, "uri-too-long", "/").await;
    let request = format!("{GET}x-long: {}\r\n", "a".repeat(17 << 10));
    refuses(&nginx, &request, 431, "header-too-large", PATH).await;
    let request = format!("GET {PATH}?busy=1 HTTP/1.1\r\nhost: x\r\n");
    let head = refuses(&nginx, &request, 503, "service-unavailable", PATH).await;
    assert!(head.contains("\r\nretry-after: 1"), "{head}");
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn an_edge_without_a_gateway_says_so() {
    let nginx = edge(&[nobody().await, nobody().await]).await;
    let head = refuses(&nginx, GET, 502, "upstream-failed", PATH).await;
    assert!(head.contains("\r\nretry-after: 1"), "{head}");
    let broken = Upstream::start(Behaviour::BreakOff).await;
    let nginx = edge(&[broken.address]).await;
    refuses(&nginx, GET, 502, "upstream-failed", PATH).await;
}

#[tokio::test]
async fn a_gateway_that_says_nothing_is_a_time_out_at_the_edge() {
    let silent = Upstream::start(Behaviour::Silent).await;
    let values = [("proxy_read_timeout 75s;", "proxy_read_timeout 200ms;")];
    let nginx = changed_edge(&[silent.address], "", &values).await;
    refuses(&nginx, GET, 504, "upstream-timeout", PATH).await;
}

#[tokio::test]
async fn the_edge_asks_the_other_gateway_and_sends_no_post_twice() {
    let (broken, good) = (
        Upstream::start(Behaviour::BreakOff).await,
        Upstream::start(Behaviour::Echo).await,
    );
    let nginx = edge(&[nobody().await, good.address]).await;
    let client = Client::new(nginx.url());
    for _ in 0..4 {
        client.post(PATH).body("{}").send().await.expect(200);
    }
    let nginx = edge(&[broken.address]).await;
    let client = Client::new(nginx.url());
    client.post(PATH).body("{}").send().await.expect(502);
    assert_eq!(broken.requests(), 1);
}

#[tokio::test]
async fn the_edge_passes_a_target_on_as_it_was_spelt_and_vouches_for_the_address_alone() {
    let upstream = Upstream::start(Behaviour::Echo).await;
    let nginx = edge(&[upstream.address]).await;
    for target in [
        "/api//things/./../%2e%2e/%41;x?q=%20&r=a%2Fb",
        "/%2F%5c?//",
        "/api/tasks/upload?a=1",
        "/api/notifications/stream",
    ] {
        let request = format!(
            "GET {target} HTTP/1.1\r\nhost: x\r\nx-user-id: mallory\r\nx-forwarded-for: 1.2.3.4\r\n\
             forwarded: for=1.2.3.4\r\nconnection: close\r\n\r\n"
        );
        let echoed = String::from_utf8(raw(nginx.address(), request).await).unwrap();
        let (_, echoed) = echoed.split_once("\r\n\r\n").unwrap();
        assert!(
            echoed.starts_with(&format!("GET {target} HTTP/1.1\r\n")),
            "{echoed}"
        );
        let echoed = echoed.to_lowercase();
        assert!(
            !echoed.contains("mallory") && !echoed.contains("1.2.3.4"),
            "{echoed}"
        );
        assert!(
            echoed.contains("\r\nx-forwarded-for: 127.0.0.1\r\n"),
            "{echoed}"
        );
    }
}

/// One event. The stream stays open after it.
const ONE_EVENT: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
    transfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n";

#[tokio::test]
async fn an_event_passes_the_edge_at_once() {
    let upstream = Upstream::start(Behaviour::Say(ONE_EVENT)).await;
    let nginx = edge(&[upstream.address]).await;
    let client = Client::new(nginx.url());
    let mut events = client.get("/api/notifications/stream").sse().await;
    let first = events.next_within(Duration::from_secs(5)).await;
    assert_eq!(first.unwrap().data, "1");
}
