//! Bodies pass as they come, in both directions.

use std::time::Duration;

use serde_json::json;

use crate::echo::LARGE;
use crate::world::World;

/// For a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_passes_either_way_unchanged() {
    let world = World::start().await;
    let user = world.user().await;
    let up = world
        .http()
        .post("/api/echo/large")
        .bearer(&user.token)
        .body(LARGE.clone());
    let seen = up.deadline(PATIENCE).send().await.expect(200).json();
    assert_eq!(seen, json!({"bytes": LARGE.len(), "same": true}));

    let down = world.http().get("/api/echo/large").bearer(&user.token);
    let reply = down.deadline(PATIENCE).send().await;
    assert_eq!(
        (reply.status.as_u16(), reply.body.len()),
        (200, LARGE.len())
    );
    assert!(reply.body == *LARGE, "the body came changed");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_passes_before_the_next_is_said() {
    let world = World::start().await;
    let user = world.user().await;
    let mut events = world
        .http()
        .get("/api/echo/events")
        .bearer(&user.token)
        .sse()
        .await;
    for n in 0..3 {
        // The worker waits until the client has the event before.
        assert_eq!(events.next().await.data, n.to_string());
        world.echo.say_next_event();
    }
    drop(events);
    world.finish().await;
}
