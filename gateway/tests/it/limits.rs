//! Rate limits, as a client sees them.

use std::net::SocketAddr;
use std::time::Duration;

use contract::problem::Kind;
use serde_json::json;
use testkit::{Redis, eventually, shared_redis, unique};

use crate::gateway::{Gateway, Setup, token};
use crate::upstream::{Behaviour, Upstream, nobody};
use crate::wire::{Answer, Wire};

/// A gateway whose service has these limits. Different policy names keep the tests apart in Redis.
async fn limited(upstream: &Upstream, redis: &str, policies: &str, limits: &str) -> Gateway {
    let top = format!(
        "redis: {{url: \"{redis}\", deadline: 1s}}\nlimits: {{gateways: 1, policies: {{{policies}}}}}\ntrusted_proxies: [127.0.0.1/32]"
    );
    let setup = Setup::new(&[upstream.address]).top(&top);
    setup.service(&format!("limits: {limits}")).start().await
}

async fn ask(address: SocketAddr, method: &str, lines: &str) -> Answer {
    let mut wire = Wire::connect(address).await;
    wire.send(format!(
        "{method} /api/things/1 HTTP/1.1\r\nhost: x\r\n{lines}\r\n"
    ))
    .await;
    wire.answer().await
}

#[tokio::test]
async fn a_429_says_what_the_limit_is_and_how_long_to_wait() {
    let upstream = Upstream::start(Behaviour::Echo).await;
    let name = unique("p");
    let redis = shared_redis().await;
    let policies = format!("{name}: {{key: user, rate: 1/s, burst: 2}}");
    let limits = format!("{{authenticated: [{name}]}}");
    let gateway = limited(&upstream, &redis.url(), &policies, &limits).await;
    let alice = format!("authorization: Bearer {}\r\n", token(json!({})));
    let bob = format!("authorization: Bearer {}\r\n", token(json!({"sub": "bob"})));

    let policy = format!("\"{name}\";q=2;w=2");
    for left in [1, 0] {
        let answer = ask(gateway.http, "DELETE", &alice).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("ratelimit-policy"), Some(policy.as_str()));
        let limit = answer.header("ratelimit").unwrap();
        assert!(
            limit.starts_with(&format!("\"{name}\";r={left};t=")),
            "{limit}"
        );
        assert_eq!(answer.header("retry-after"), None);
    }
    let mut refused = ask(gateway.http, "DELETE", &alice).await;
    refused.is_problem(Kind::RateLimited, "/api/things/1");
    assert_eq!(refused.header("connection"), Some("keep-alive"));
    assert_eq!(refused.header("ratelimit-policy"), Some(policy.as_str()));
    let limit = refused.header("ratelimit").unwrap();
    assert_eq!(limit, format!("\"{name}\";r=0;t=1"));
    assert_eq!(upstream.requests(), 2);
    // Another user has another bucket.
    assert_eq!(ask(gateway.http, "DELETE", &bob).await.status, 200);

    // A client that is the only one of its key and waits that long is admitted, each time.
    for _ in 0..2 {
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert_eq!(wait, 1);
        tokio::time::sleep(Duration::from_secs(wait)).await;
        assert_eq!(ask(gateway.http, "DELETE", &alice).await.status, 200);
        refused = ask(gateway.http, "DELETE", &alice).await;
        assert_eq!(refused.status, 429);
    }
}

#[tokio::test]
async fn an_anonymous_caller_is_limited_by_the_address_that_the_proxy_saw() {
    let upstream = Upstream::start(Behaviour::Echo).await;
    let name = unique("p");
    let redis = shared_redis().await;
    let policies = format!("{name}: {{key: address, rate: 1/h, burst: 1}}");
    let limits = format!("{{authenticated: [], anonymous: [{name}]}}");
    let gateway = limited(&upstream, &redis.url(), &policies, &limits).await;
    let from = |chain: &str| format!("x-forwarded-for: {chain}\r\n");
    let asked = [
        ("198.51.100.1", 200),
        // The left part is only the client's claim and gives it no other bucket.
        ("203.0.113.9, 198.51.100.1", 429),
        ("198.51.100.2", 200),
    ];
    for (chain, status) in asked {
        let answer = ask(gateway.http, "GET", &from(chain)).await;
        assert_eq!(answer.status, status, "{chain}");
    }
    let refused = ask(gateway.http, "GET", &from("198.51.100.1")).await;
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((3590..=3600).contains(&wait), "{wait}");
}

#[tokio::test]
async fn without_redis_a_policy_is_local_open_or_a_503() {
    let upstream = Upstream::start(Behaviour::Echo).await;
    let redis = format!("redis://{}", nobody().await);
    for (mode, answers) in [
        ("deny", [503, 503, 503]),
        ("local", [200, 200, 429]),
        ("allow", [200, 200, 200]),
    ] {
        let policies =
            format!("p: {{key: address, rate: 1/h, burst: 2, on_redis_failure: {mode}}}");
        let limits = "{authenticated: [], anonymous: [p]}";
        let gateway = limited(&upstream, &redis, &policies, limits).await;
        for status in answers {
            let answer = ask(gateway.http, "GET", "").await;
            assert_eq!(answer.status, status, "{mode}");
            if status == 503 {
                answer.is_problem(Kind::ServiceUnavailable, "/api/things/1");
                assert_eq!(answer.header("retry-after"), Some("1"));
            }
        }
    }
}

#[tokio::test]
async fn a_redis_that_dies_costs_no_request_and_decides_again_when_it_is_back() {
    let upstream = Upstream::start(Behaviour::Echo).await;
    let mut redis = Redis::start().await;
    let policies = "p: {key: address, rate: 1/h, burst: 1000}";
    let limits = "{authenticated: [], anonymous: [p]}";
    let gateway = limited(&upstream, &redis.url(), policies, limits).await;
    let mode =
        async || gateway.admin().get("/status").send().await.json()["limiter"]["mode"].clone();
    assert_eq!(ask(gateway.http, "GET", "").await.status, 200);
    assert_eq!(mode().await, "redis");
    redis.kill();
    for _ in 0..20 {
        assert_eq!(ask(gateway.http, "GET", "").await.status, 200);
    }
    assert_eq!(mode().await, "local");
    redis.restart().await;
    eventually(Duration::from_secs(5), async || mode().await == "redis").await;
    assert_eq!(ask(gateway.http, "GET", "").await.status, 200);
}
