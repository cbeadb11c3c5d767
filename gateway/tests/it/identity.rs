//! The identity that workers receive: only what the gateway asserts.

use contract::identity::{SigningKeys, USER_ID};
use serde_json::json;

use crate::gateway::{SECRET, start, token};
use crate::upstream::{Behaviour, Upstream};
use crate::wire::Wire;

/// All values of a header in a forwarded request.
fn values<'a>(forwarded: &'a str, name: &str) -> Vec<&'a str> {
    let (head, _) = forwarded.split_once("\r\n\r\n").unwrap();
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
        .collect()
}

/// What a worker received of a request with these header lines and this body.
async fn forwarded(method: &str, lines: &str, body: &str) -> String {
    let upstream = Upstream::start(Behaviour::Echo).await;
    let gateway = start(&[upstream.address], "").await;
    let mut wire = Wire::connect(gateway.http).await;
    wire.send(format!(
        "{method} /api/things/1?q=1 HTTP/1.1\r\nhost: x\r\n{lines}\r\n{body}"
    ))
    .await;
    let answer = wire.answer().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text()
}

fn authorization() -> String {
    format!("authorization: Bearer {}\r\n", token(json!({})))
}

/// Verifies a forwarded request as a worker does, and returns the caller's user id.
fn verified(forwarded: &str) -> Option<String> {
    let (head, _) = forwarded.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let mut first = lines.next().unwrap().split(' ');
    let (method, target) = (first.next().unwrap(), first.next().unwrap());
    let mut headers = http::HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        let name: http::HeaderName = name.parse().unwrap();
        headers.append(name, value.parse().unwrap());
    }
    let keys = SigningKeys::parse(&format!("k1:{SECRET}")).unwrap();
    let now = jiff::Timestamp::now().as_millisecond();
    let caller = keys.verify(method, target, &headers, now).unwrap();
    caller.map(|caller| caller.user_id.to_string())
}

#[tokio::test]
async fn a_worker_is_told_one_verified_user() {
    let seen = forwarded("DELETE", &authorization(), "").await;
    assert_eq!(values(&seen, "x-user-id"), ["alice"]);
    assert_eq!(values(&seen, "x-session-id"), ["s1"]);
    assert_eq!(values(&seen, "x-token-expires").len(), 1);
    assert_eq!(values(&seen, "x-client-address"), ["127.0.0.1"]);
    assert_eq!(values(&seen, "traceparent").len(), 1);
    assert_eq!(verified(&seen).as_deref(), Some("alice"));
}

#[tokio::test]
async fn a_public_request_is_signed_without_a_user() {
    let seen = forwarded("GET", &authorization(), "").await;
    assert!(values(&seen, "x-user-id").is_empty(), "{seen}");
    assert!(values(&seen, "x-session-id").is_empty(), "{seen}");
    assert_eq!(verified(&seen), None);
}

// The false values contain `~`, which no token and no signature can contain.
#[tokio::test]
async fn what_a_client_says_of_itself_is_dropped() {
    let lies = "x-user-id: bob~\r\nX-User-ID: eve~\r\nX-USER-ID: mallory~\r\nx-session-id: s9~\r\n\
        x-token-expires: 9~\r\nx-client-address: 10.0.0.1\r\nx-forwarded-for: 10.0.0.1\r\n\
        x-forwarded-host: evil~\r\nx-forwarded-proto: https\r\nx-forwarded-port: 1~\r\nforwarded: for=10.0.0.1\r\n\
        x-request-id: 0123456789abcdef\r\nx-gateway-time: 1~\r\nx-gateway-signature: kid=k1,v1=00~\r\n\
        x-claim-role: admin~\r\n";
    for (method, user) in [("DELETE", Some("alice")), ("GET", None)] {
        let seen = forwarded(method, &format!("{lies}{}", authorization()), "").await;
        for lie in ["~", "10.0.0.1", "https", "0123456789abcdef"] {
            assert!(!seen.contains(lie), "{lie} in {seen}");
        }
        let expected: Vec<&str> = user.into_iter().collect();
        assert_eq!(values(&seen, "x-user-id"), expected);
        assert_eq!(values(&seen, "x-forwarded-proto"), ["http"]);
        assert_eq!(values(&seen, "x-forwarded-host"), ["x"]);
        assert_eq!(verified(&seen).as_deref(), user);
    }
}

#[tokio::test]
async fn no_connection_header_names_the_identity_away() {
    for named in [
        "connection: x-user-id\r\n",
        "connection: close, X-User-Id, x-gateway-signature, x-gateway-time\r\n",
        "connection: keep-alive, x-session-id, x-client-address, x-request-id\r\n",
        "x-user-id: bob~\r\nconnection: x-user-id\r\n",
    ] {
        let seen = forwarded("DELETE", &format!("{named}{}", authorization()), "").await;
        assert_eq!(values(&seen, "x-user-id"), ["alice"], "{named}");
        assert_eq!(verified(&seen).as_deref(), Some("alice"), "{named}");
    }
}

#[tokio::test]
async fn an_identity_in_a_trailer_goes_nowhere() {
    let lines = format!(
        "{}transfer-encoding: chunked\r\ntrailer: x-user-id\r\n",
        authorization()
    );
    let body = "2\r\nhi\r\n0\r\nx-user-id: bob~\r\nX-Session-Id: s9~\r\n\r\n";
    let seen = forwarded("PATCH", &lines, body).await;
    assert!(seen.ends_with("0\r\n\r\n") && seen.contains("hi"), "{seen}");
    assert!(!seen.contains('~'), "{seen}");
    assert_eq!(verified(&seen).as_deref(), Some("alice"));
}

#[tokio::test]
async fn no_identity_of_a_workers_reaches_a_client() {
    let said = "HTTP/1.1 200 OK\r\nx-user-id: bob\r\nX-User_Id: bob\r\nx-session-id: bob\r\n\
        X-Gateway-Signature: bob\r\nx-gateway-time: bob\r\nx-client-address: bob\r\nx-claim-role: bob\r\n\
        x-forwarded-for: bob\r\nx-request-id: bob\r\nx-other: kept\r\ncontent-length: 2\r\n\r\nok";
    let upstream = Upstream::start(Behaviour::Say(said)).await;
    let gateway = start(&[upstream.address], "").await;
    let mut wire = Wire::connect(gateway.http).await;
    wire.send("GET /api/things/1 HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    let answer = wire.answer().await;
    assert_eq!(answer.status, 200);
    let shown = format!("{:?}", answer.headers);
    assert!(!shown.contains("bob"), "{shown}");
    assert_eq!(answer.header("x-other"), Some("kept"));
    assert_eq!(answer.header("x-request-id").unwrap().len(), 32);
    assert!(answer.header(USER_ID.as_str()).is_none());
}
