//! MongoDB becomes unavailable and returns.

use std::time::Duration;

use testkit::{ChaosProxy, eventually, shared_mongodb};

use crate::platform::{PASSWORD, Worker, config};

#[tokio::test]
async fn the_worker_starts_without_mongodb_and_gets_ready_when_it_appears() {
    let mongodb = shared_mongodb().await;
    let mut proxy = ChaosProxy::start(mongodb.address()).await;
    proxy.refuse().await;
    let worker = Worker::with(config(
        &mongodb.url_at(proxy.address()),
        &mongodb.fresh_database(),
    ))
    .await;
    let operations = worker.gateway.unsigned();
    operations.get("/livez").send().await.expect(200);
    let not_ready = operations.get("/readyz").send().await.expect(503).json();
    assert_eq!(not_ready["dependencies"][0]["name"], "mongodb");
    operations
        .get("/.well-known/jwks.json")
        .send()
        .await
        .expect(200);
    let refused = worker.register("ada@example.org").await.expect(503);
    assert_eq!(refused.json()["type"], "/problems/service-unavailable");
    assert!(refused.header("retry-after").is_some());

    proxy.restore().await;
    eventually(Duration::from_secs(5), || worker.is_ready()).await;
    worker.register("ada@example.org").await.expect(201);
    worker.register("ada@example.org").await.expect(409);
    worker.stop().await;
}

#[tokio::test]
async fn requests_answer_503_while_mongodb_is_away_and_work_again_afterwards() {
    let mongodb = shared_mongodb().await;
    let mut proxy = ChaosProxy::start(mongodb.address()).await;
    let worker = Worker::with(config(
        &mongodb.url_at(proxy.address()),
        &mongodb.fresh_database(),
    ))
    .await;
    eventually(Duration::from_secs(10), || worker.is_ready()).await;
    worker.register("ada@example.org").await.expect(201);

    proxy.refuse().await;
    worker.login("ada@example.org", PASSWORD).await.expect(503);
    assert!(!worker.is_ready().await);
    worker
        .gateway
        .unsigned()
        .get("/livez")
        .send()
        .await
        .expect(200);

    proxy.restore().await;
    eventually(Duration::from_secs(5), || worker.is_ready()).await;
    worker.login("ada@example.org", PASSWORD).await.expect(200);
    worker.stop().await;
}
