//! Callers who are refused, and what the response says.

use std::time::Duration;

use contract::problem::Kind;
use serde_json::json;
use testkit::eventually;

use crate::gateway::{Gateway, Setup, start, token};
use crate::upstream::{Behaviour, Upstream, nobody};
use crate::wire::{Answer, Wire};

/// Requests a protected path.
async fn ask(gateway: &Gateway, authorization: &str) -> Answer {
    let mut wire = Wire::connect(gateway.http).await;
    let line = match authorization {
        "" => String::new(),
        value => format!("authorization: {value}\r\n"),
    };
    let request = format!("DELETE /api/things/1 HTTP/1.1\r\nhost: x\r\n{line}\r\n");
    wire.send(request).await;
    wire.answer().await
}

#[tokio::test]
async fn whoever_is_not_known_is_a_401_that_says_why() {
    let upstream = Upstream::start(Behaviour::Echo).await;
    let gateway = start(&[upstream.address], "").await;
    let good = token(json!({}));
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    let forged = format!("{signed}.{first}{}", &signature[1..]);
    let late = jiff::Timestamp::now().as_second() - 60;
    let soon = jiff::Timestamp::now().as_second() + 600;
    let cases = [
        (String::new(), "Bearer"),
        ("Basic YTpi".to_owned(), "Bearer"),
        ("Bearer".to_owned(), "invalid_token"),
        ("Bearer nonsense".to_owned(), "malformed"),
        (format!("Bearer {forged}"), "signature is wrong"),
        (
            format!("Bearer {}", "x".repeat(9 << 10)),
            "longer than 8 KiB",
        ),
        (
            format!("Bearer {}", token(json!({"exp": late}))),
            "has expired",
        ),
        (
            format!("Bearer {}", token(json!({"exp": "9999999999"}))),
            "malformed",
        ),
        (
            format!("Bearer {}", token(json!({"nbf": soon}))),
            "not valid yet",
        ),
        (
            format!("Bearer {}", token(json!({"iss": "else"}))),
            "issuer",
        ),
        (
            format!("Bearer {}", token(json!({"aud": "else"}))),
            "somebody else",
        ),
        (format!("Bearer {}", token(json!({"sub": null}))), "subject"),
        (format!("Bearer {}", token(json!({"sid": null}))), "session"),
    ];
    for (authorization, challenge) in cases {
        let answer = ask(&gateway, &authorization).await;
        answer.is_problem(Kind::Unauthenticated, "/api/things/1");
        let header = answer.header("www-authenticate").unwrap();
        assert!(
            header.starts_with("Bearer") && header.contains(challenge),
            "{header}"
        );
        assert_eq!(header == "Bearer", challenge == "Bearer", "{header}");
        assert_eq!(answer.header("connection"), Some("keep-alive"));
    }
    assert_eq!(upstream.requests(), 0);
    assert_eq!(ask(&gateway, &format!("bearer {good}")).await.status, 200);
}

#[tokio::test]
async fn a_token_whose_keys_cannot_be_loaded_is_a_503_with_retry_after() {
    let upstream = Upstream::start(Behaviour::Echo).await;
    let jwks = nobody().await;
    let keys = format!("jwks_url: \"http://{jwks}/keys\", algorithms: [EdDSA]");
    let gateway = Setup::new(&[upstream.address])
        .keys(&keys)
        .start_unready()
        .await;
    // A token of that issuer whose key has not been loaded.
    let claims = token(json!({}));
    let claims = claims.split('.').nth(1).unwrap();
    let header = "eyJhbGciOiJFZERTQSIsInR5cCI6ImF0K2p3dCIsImtpZCI6ImsxIn0";
    let answer = ask(
        &gateway,
        &format!("Bearer {header}.{claims}.{}", "A".repeat(86)),
    )
    .await;
    answer.is_problem(Kind::ServiceUnavailable, "/api/things/1");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(upstream.requests(), 0);
    // Without a token no key is needed, and public paths need no token.
    let answer = ask(&gateway, "").await;
    answer.is_problem(Kind::Unauthenticated, "/api/things/1");
    gateway
        .client()
        .get("/api/things/1")
        .send()
        .await
        .expect(200);
    assert_eq!(gateway.admin().get("/readyz").send().await.status, 503);
}

#[tokio::test]
async fn an_address_that_forges_without_end_is_a_429() {
    let upstream = Upstream::start(Behaviour::Echo).await;
    let gateway = start(&[upstream.address], "").await;
    let good = token(json!({}));
    let forged = format!(
        "Bearer {}.{}",
        good.rsplit_once('.').unwrap().0,
        "A".repeat(43)
    );
    let client = gateway.client();
    let refused = eventually(Duration::from_secs(10), async || {
        // All at once, so that even a slow machine sends more than 100 per second.
        let burst = (0..150).map(|_| {
            let request = client.delete("/api/things/1");
            request.header("authorization", &forged).send()
        });
        let replies = futures_util::future::join_all(burst).await;
        replies.into_iter().find(|reply| reply.status == 429)
    })
    .await;
    assert_eq!(refused.json()["type"], "/problems/rate-limited");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(upstream.requests(), 0);
}
