//! Only the gateway decides who the caller is.

use std::net::SocketAddr;

use serde_json::{Value, json};
use testkit::{Client, Signed, raw};

use crate::echo::IDENTITY;
use crate::test_platform::TestPlatform;

/// Header lines with which a client might impersonate another user. All are refused or removed.
const FORGERIES: &[&str] = &[
    "x-user-id: forged",
    "X-User-Id: forged",
    "X-USER-ID: forged\r\nx-user-id: forged",
    "x-user-id: \r\nx-user-id: forged",
    "Connection: x-user-id",
    "Connection: keep-alive, X-User-Id, x-gateway-signature\r\nx-user-id: forged",
    "Connection: x-session-id\r\nConnection: x-user-id",
    "x_user_id: forged",
    "X_User-Id: forged",
    "X-User_ID: forged",
    "x-user-id : forged",
    "x-session-id: forged\r\nx-token-expires: 99999999999",
    "x-claim-plan: forged",
    "x-gateway-time: 1\r\nx-gateway-signature: test:forged",
    "x-client-address: forged",
    "Trailer: x-user-id",
];

fn body_of(reply: &[u8]) -> Value {
    let end = reply
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .expect("a head")
        + 4;
    let text = String::from_utf8_lossy(&reply[end..]).into_owned();
    let json = text
        .find('{')
        .zip(text.rfind('}'))
        .map(|(from, to)| &text[from..=to]);
    serde_json::from_str(json.unwrap_or("null")).expect("a JSON body")
}

fn values<'a>(seen: &'a Value, name: &str) -> Vec<&'a str> {
    let headers = seen["headers"].as_array().expect("headers");
    let named = headers.iter().filter(|pair| pair[0] == name);
    named.filter_map(|pair| pair[1].as_str()).collect()
}

/// Sends a chunked POST with these header lines and a forged trailer.
async fn send(address: SocketAddr, path: &str, lines: &str) -> Vec<u8> {
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: sluice\r\nConnection: close\r\n\
         Transfer-Encoding: chunked\r\n{lines}\r\n\r\n\
         2\r\nhi\r\n0\r\nx-user-id: forged\r\n\r\n"
    );
    raw(address, request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_x_user_id_reaches_a_worker_or_removes_the_real_one() {
    let test = TestPlatform::start().await;
    let user = test.user().await;
    let gateway = test.platform.gateways[0].http;
    let token = &user.token;
    let cases = FORGERIES.iter().map(|lines| async move {
        let known = format!("Authorization: Bearer {token}\r\n{lines}");
        let known = send(gateway, "/api/echo", &known).await;
        (
            *lines,
            known,
            send(gateway, "/api/echo/public", lines).await,
        )
    });
    for (lines, known, nobody) in futures_util::future::join_all(cases).await {
        for (reply, user_ids) in [(known, vec![user.id.as_str()]), (nobody, vec![])] {
            let text = String::from_utf8_lossy(&reply);
            if text.starts_with("HTTP/1.1 400 ") {
                // The whole request is refused. What must be refused is in `refusals`.
                assert!(
                    lines.contains('_') || lines.contains(" :"),
                    "{lines}: {text}"
                );
                continue;
            }
            assert!(text.starts_with("HTTP/1.1 200 "), "{lines}: {text}");
            let seen = body_of(&reply);
            assert_eq!(values(&seen, "x-user-id"), user_ids, "{lines}: {seen}");
            assert_eq!(
                values(&seen, "x-gateway-signature").len(),
                1,
                "{lines}: {seen}"
            );
            assert_eq!(
                values(&seen, "x-client-address"),
                ["127.0.0.1"],
                "{lines}: {seen}"
            );
            assert!(!seen.to_string().contains("forged"), "{lines}: {seen}");
            assert_eq!(seen["body_bytes"], 2, "{lines}: {seen}");
        }
    }
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_headers_of_a_worker_never_reach_the_client() {
    let test = TestPlatform::start().await;
    let user = test.user().await;
    let reply = test
        .http()
        .get("/api/echo/claims")
        .bearer(&user.token)
        .send()
        .await
        .expect(200);
    assert_eq!(reply.header("x-harmless"), Some("yes"));
    for name in IDENTITY {
        assert_eq!(reply.header(name), None, "{reply:?}");
    }
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_called_directly_answers_401() {
    let test = TestPlatform::start().await;
    let platform = &test.platform;
    let paths = [
        (&platform.user_workers, "/api/users/me"),
        (&platform.task_workers, "/api/tasks"),
        (&platform.notification_workers, "/api/notifications"),
    ];
    for (replicas, path) in paths {
        let url = format!("http://{}", replicas[0]);
        let (worker, signed) = (Client::new(&url), Signed::new(&url).as_user("somebody"));
        let forged = "test:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
        for request in [
            worker.get(path),
            worker.get(path).header("x-user-id", "somebody"),
            worker
                .get(path)
                .header("x-user-id", "somebody")
                .header("x-gateway-signature", forged),
            // Signed, then changed.
            signed.get(path).header("x-claim-plan", "gold"),
            signed.get(path).header("x-user-id", "somebody-else"),
        ] {
            let reply = request.send().await.expect(401);
            assert_eq!(
                reply.json()["type"],
                "/problems/unauthenticated",
                "{reply:?}"
            );
        }
        for path in ["/livez", "/readyz", "/metrics"] {
            worker.get(path).send().await.expect(200);
        }
    }
    let body = json!({"email": "a@example.com", "password": "a good password", "name": "A"});
    let register = Client::new(format!("http://{}", platform.user_workers[0]));
    register
        .post("/api/users/register")
        .json(&body)
        .send()
        .await
        .expect(401);
    register
        .get("/.well-known/jwks.json")
        .send()
        .await
        .expect(200);
    test.finish().await;
}
