//! No notification is lost or duplicated, whatever happens to the broker.

use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::{Client, RabbitMq, eventually};

use crate::changes::Changes;
use crate::dependencies::Dependencies;
use crate::test_platform::{GATEWAY_CONFIG, TestPlatform};

/// Longer than a gateway needs to drop a worker that is not ready.
const LONG_ENOUGH: Duration = Duration::from_secs(5);

/// Waits until the task workers report that the broker is unreachable. They stay ready without it.
async fn broker_is_unreachable(test: &TestPlatform) {
    for worker in &test.platform.task_workers {
        let worker = Client::new(format!("http://{worker}"));
        eventually(Duration::from_secs(30), async || {
            let reply = worker.get("/readyz").send().await.expect(200).json();
            let dependencies = reply["dependencies"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let unreachable = |d: &Value| d["name"] == "rabbitmq" && d["ok"] == false;
            if dependencies.iter().any(unreachable) {
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
    let test = TestPlatform::with(
        Dependencies::with_broker(&vhost.url()).await,
        GATEWAY_CONFIG,
    )
    .await;
    let (owner, assignee) = (test.user().await, test.user().await);
    let mut changes = Changes::new(&test, &owner, &assignee);

    changes.make().await;
    broker.pause();
    broker_is_unreachable(&test).await;
    let began = Instant::now();
    while began.elapsed() < LONG_ENOUGH {
        changes.make().await;
    }
    broker.resume();
    changes.make().await;
    broker.kill();
    broker_is_unreachable(&test).await;
    changes.make().await;
    broker.restart().await;
    changes.make().await;

    changes.assert_notified_once().await;
    test.finish().await;
}
