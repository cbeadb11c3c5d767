//! Bodies pass unchanged and without buffering, in both directions.

use std::time::Duration;

use serde_json::json;

use crate::echo::LARGE;
use crate::test_platform::TestPlatform;

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_passes_either_way_unchanged() {
    let test = TestPlatform::start().await;
    let user = test.user().await;
    let up = test
        .http()
        .post("/api/echo/large")
        .bearer(&user.token)
        .body(LARGE.clone());
    let seen = up.deadline(PATIENCE).send().await.expect(200).json();
    assert_eq!(seen, json!({"bytes": LARGE.len(), "same": true}));

    let down = test.http().get("/api/echo/large").bearer(&user.token);
    let reply = down.deadline(PATIENCE).send().await;
    assert_eq!(
        (reply.status.as_u16(), reply.body.len()),
        (200, LARGE.len())
    );
    assert!(reply.body == *LARGE, "the body came changed");
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_passes_before_the_next_is_said() {
    let test = TestPlatform::start().await;
    let user = test.user().await;
    let mut events = test
        .http()
        .get("/api/echo/events")
        .bearer(&user.token)
        .sse()
        .await;
    for n in 0..3 {
        // The worker sends the next event only after the client has this one.
        assert_eq!(events.next().await.data, n.to_string());
        test.echo.send_next_event();
    }
    drop(events);
    test.finish().await;
}
