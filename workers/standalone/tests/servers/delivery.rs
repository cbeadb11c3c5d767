//! Nothing is lost or doubled, whatever happens to the broker.

use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::{Client, RabbitMq, eventually};

use crate::changes::Changes;
use crate::ground::Ground;
use crate::world::{GATEWAY_CONFIG, World};

/// For a gateway to drop a worker whose readiness waits for the broker.
const LONG_ENOUGH: Duration = Duration::from_secs(5);

/// Waits until the task workers say that the broker is away; they stay ready without it.
async fn is_away(world: &World) {
    for worker in &world.platform.task_workers {
        let worker = Client::new(format!("http://{worker}"));
        eventually(Duration::from_secs(30), async || {
            let reply = worker.get("/readyz").send().await.expect(200).json();
            let dependencies = reply["dependencies"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let away = |d: &Value| d["name"] == "rabbitmq" && d["ok"] == false;
            if dependencies.iter().any(away) {
                Ok(())
            } else {
                Err(reply.to_string())
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_hangs_and_one_that_is_killed_lose_and_double_nothing() {
    let mut broker = RabbitMq::start().await;
    let vhost = broker.fresh_vhost().await;
    let world = World::with(Ground::with_broker(&vhost.url()).await, GATEWAY_CONFIG).await;
    let (owner, assignee) = (world.user().await, world.user().await);
    let mut changes = Changes::new(&world, &owner, &assignee);

    changes.make().await;
    broker.pause();
    is_away(&world).await;
    let began = Instant::now();
    while began.elapsed() < LONG_ENOUGH {
        changes.make().await;
    }
    broker.resume();
    changes.make().await;
    broker.kill();
    is_away(&world).await;
    changes.make().await;
    broker.restart().await;
    changes.make().await;

    changes.were_told_once().await;
    world.finish().await;
}
