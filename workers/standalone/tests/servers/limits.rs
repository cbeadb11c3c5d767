//! All gateways share one limit, and requests are still answered without Redis.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use testkit::Client;

use crate::dependencies::Dependencies;
use crate::test_platform::{GATEWAY_CONFIG, TestPlatform};

/// The policy `tight`.
const RATE: f64 = 25.0;
const BURST: f64 = 25.0;

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_share_one_limit_exactly_and_use_it_up() {
    // A busy machine must not look like an outage of Redis, during which each gateway counts alone.
    let patient = GATEWAY_CONFIG.replace("deadline: 100ms", "deadline: 5s");
    let test = TestPlatform::with(Dependencies::fresh().await, &patient).await;
    let user = test.user().await;
    let (admitted, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let began = Instant::now();
    let load = Duration::from_secs(20);
    let callers = (0..16).map(|n| {
        let gateway = &test.gateways[n % 2];
        let (user, admitted, refused) = (&user, &admitted, &refused);
        async move {
            while began.elapsed() < load {
                let reply = gateway
                    .get("/api/echo/tight")
                    .bearer(&user.token)
                    .send()
                    .await;
                match reply.status.as_u16() {
                    200 => admitted.fetch_add(1, Ordering::Relaxed),
                    429 => refused.fetch_add(1, Ordering::Relaxed),
                    _ => panic!("neither admitted nor refused: {reply:?}"),
                };
            }
        }
    });
    join_all(callers).await;
    let took = began.elapsed().as_secs_f64();
    let (admitted, refused) = (admitted.into_inner() as f64, refused.into_inner() as f64);

    for gateway in &test.platform.gateways {
        let admin = Client::new(format!("http://{}", gateway.admin));
        let metrics = admin.get("/metrics").send().await.expect(200).text();
        let failed = "gateway_limiter_redis_calls_total{outcome=\"failed\"}";
        let failed = metrics
            .lines()
            .find_map(|line| line.strip_prefix(failed))
            .expect(failed);
        assert_eq!(
            failed.trim(),
            "0",
            "calls to Redis failed, so the limit was not shared"
        );
    }
    let most = BURST + RATE * took;
    let least = 0.98 * (BURST + RATE * load.as_secs_f64());
    assert!(
        admitted + refused > 3.0 * most,
        "only {refused} refused: the load was too low"
    );
    assert!(
        admitted <= most,
        "{admitted} admitted, {most} allowed in {took} s"
    );
    assert!(
        admitted >= least,
        "{admitted} admitted, {least} expected in {load:?}"
    );
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_while_redis_is_away() {
    let mut test = TestPlatform::start().await;
    let user = test.user().await;
    let answered = async |test: &TestPlatform| {
        for n in 0..20 {
            let began = Instant::now();
            let request = test.gateways[n % 2].get("/api/echo");
            let reply = request.bearer(&user.token).send().await.expect(200);
            assert!(
                began.elapsed() < Duration::from_secs(2),
                "{n}: {:?}",
                began.elapsed()
            );
            assert!(reply.header("ratelimit").is_some(), "{reply:?}");
        }
    };
    answered(&test).await;
    test.dependencies.redis.kill();
    answered(&test).await;
    test.dependencies.redis.restart().await;
    answered(&test).await;
    test.dependencies.redis.pause();
    answered(&test).await;
    test.dependencies.redis.resume();
    answered(&test).await;
    test.finish().await;
}
