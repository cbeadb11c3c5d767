//! What a client is told about its limits.

use std::time::Duration;

use crate::test_platform::TestPlatform;

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_when_to_come_back_and_keeps_its_word() {
    let test = TestPlatform::start().await;
    let user = test.user().await;
    let call = |gateway: usize| {
        let request = test.gateways[gateway].get("/api/echo/single");
        request.bearer(&user.token).send()
    };
    let first = call(0).await.expect(200);
    let policies = first.header("ratelimit-policy").unwrap();
    assert!(
        policies.contains("\"single\";q=1") && policies.contains("\"user\";q=2000"),
        "{policies}"
    );
    assert!(
        first
            .header("ratelimit")
            .unwrap()
            .contains("\"single\";r=0"),
        "{first:?}"
    );

    let refusal = call(1).await.expect(429);
    assert_eq!(
        refusal.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(refusal.json()["type"], "/problems/rate-limited");
    assert!(
        refusal
            .header("ratelimit")
            .unwrap()
            .contains("\"single\";r=0"),
        "{refusal:?}"
    );
    let wait = refusal.header("retry-after").unwrap().parse().unwrap();
    tokio::time::sleep(Duration::from_secs(wait)).await;
    call(1).await.expect(200);
    test.finish().await;
}
