//! The feed of ended sessions, from a user worker that answers as each test needs.

use std::net::SocketAddr;

use serde_json::{Value, json};
use testkit::free_port;

use crate::gateway::{Gateway, Setup, token};
use crate::upstream::{Behaviour, Upstream};

/// A worker that answers every request with this.
async fn worker(answer: &Value) -> Upstream {
    let body = answer.to_string();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    Upstream::start(Behaviour::Say(Box::leak((head + &body).into_boxed_str()))).await
}

fn ends(sessions: &[&str]) -> Value {
    let now = "2026-11-27T10:00:00.000Z";
    let end = |sid: &&str| json!({"sid": sid, "at": now});
    let ended: Vec<_> = sessions.iter().map(end).collect();
    json!({"now": now, "tokens_live_ms": 600_000, "ended": ended})
}

/// A gateway that follows the user worker at `users`.
fn following(things: &Upstream, users: SocketAddr, when_stale: &str) -> Setup {
    let users = format!("  users: {{prefix: /api/users, upstreams: [\"{users}\"]}}\n");
    let revocation = format!("revocation: {{service: users, when_stale: {when_stale}}}\n");
    Setup::new(&[things.address]).top(&(users + &revocation))
}

/// The status of a request in this session.
async fn status(gateway: &Gateway, session: &str) -> u16 {
    let token = token(json!({"sid": session}));
    let client = gateway.client();
    let reply = client.delete("/api/things/1").bearer(&token).send().await;
    reply.status.as_u16()
}

#[tokio::test]
async fn a_session_that_ended_before_the_gateway_started_is_refused_and_others_are_not() {
    let (things, users) = (
        Upstream::start(Behaviour::Echo).await,
        worker(&ends(&["s1", "s3"])).await,
    );
    let gateway = following(&things, users.address, "deny").start().await;
    assert_eq!(status(&gateway, "s1").await, 401);
    assert_eq!(status(&gateway, "s2").await, 200);
    assert_eq!(status(&gateway, "s3").await, 401);
    let shown = gateway
        .admin()
        .get("/status")
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(shown["revocation"]["sequence"], 2, "{shown}");
    assert!(shown["revocation"]["age_ms"].is_u64(), "{shown}");
}

#[tokio::test]
async fn without_a_feed_tokens_are_good_or_not_as_it_is_configured() {
    let things = Upstream::start(Behaviour::Echo).await;
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    // This gateway becomes ready when the feed counts as stale, and no earlier.
    let allow = following(&things, nobody, "allow").start().await;
    assert_eq!(status(&allow, "s1").await, 200);
    let deny = following(&things, nobody, "deny").start_unready().await;
    let token = token(json!({}));
    let client = deny.client();
    let refused = client.delete("/api/things/1").bearer(&token).send().await;
    assert!(refused.expect(503).header("retry-after").is_some());
    let ready = deny.admin().get("/readyz").send().await.expect(503).text();
    assert!(ready.contains("ended sessions"), "{ready}");
}

#[tokio::test]
async fn what_is_no_list_of_ends_is_counted_and_believed_in_nothing() {
    let (things, users) = (
        Upstream::start(Behaviour::Echo).await,
        worker(&json!({"ended": "all"})).await,
    );
    let gateway = following(&things, users.address, "allow").start().await;
    assert_eq!(status(&gateway, "s1").await, 200);
    let metrics = gateway
        .admin()
        .get("/metrics")
        .send()
        .await
        .expect(200)
        .text();
    let failures = metrics
        .lines()
        .find_map(|line| line.strip_prefix("gateway_revocation_failures_total "));
    assert_ne!(failures, Some("0"), "{metrics}");
}
