//! What every worker must do while its servers are unreachable. One suite for all workers: each passes its
//! binary, its variables and a request that needs its store.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{
    ChaosProxy, GATEWAY_KEYS, Process, Reply, Signed, eventually, free_port, shared_mongodb,
    shared_rabbitmq,
};

/// How long a worker may take to be ready after its servers return, and to start or end.
const SOON: Duration = Duration::from_secs(5);

/// A worker's binary.
pub struct Worker<'a> {
    /// `env!("CARGO_BIN_EXE_…")`
    pub program: &'a str,
    /// Its variables in addition to those of every worker.
    pub variables: &'a [(&'a str, &'a str)],
    /// A path whose GET needs the store.
    pub path: &'a str,
    /// The status for a new user.
    pub answer: u16,
}

/// A worker whose connections to its servers are refused at first.
struct Outage {
    process: Process,
    http: Signed,
    mongodb: ChaosProxy,
    rabbitmq: ChaosProxy,
}

/// The worker starts without its servers and keeps running. It is live and not ready, and answers 503. When
/// MongoDB and RabbitMQ return, it is ready within 5 s.
pub async fn a_worker_lives_without_its_servers_and_is_ready_when_they_return(worker: Worker<'_>) {
    let mut outage = launch(&worker).await;
    let (_, somebody) = outage.http.as_somebody();
    let operations = outage.http.unsigned();

    let not_ready = operations.get("/readyz").send().await.expect(503).json();
    assert!(!is_ok(&not_ready, "mongodb"), "{not_ready}");
    assert!(!is_ok(&not_ready, "rabbitmq"), "{not_ready}");
    let refused = somebody.get(worker.path).send().await;
    assert_problem(refused.clone().expect(503), "service-unavailable");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    let unsigned = operations.get(worker.path).send().await.expect(401);
    assert_problem(unsigned, "unauthenticated");
    operations.get("/livez").send().await.expect(200);
    assert!(outage.process.is_running(), "{}", outage.process.log());

    outage.mongodb.restore().await;
    outage.rabbitmq.restore().await;
    let back = Instant::now();
    eventually(SOON, async || {
        let ready = operations.get("/readyz").send().await;
        let body = ready.json();
        ready.status == 200 && is_ok(&body, "mongodb") && is_ok(&body, "rabbitmq")
    })
    .await;
    eprintln!(
        "{} was ready after {:?}",
        outage.process.name(),
        back.elapsed()
    );
    somebody.get(worker.path).send().await.expect(worker.answer);
}

/// Without its servers the worker ends in order, and does not wait for them.
pub async fn a_worker_without_its_servers_ends_when_it_is_told_to(worker: Worker<'_>) {
    let mut outage = launch(&worker).await;
    let ended = outage.process.terminate(SOON).await;
    assert!(ended.success(), "{}", outage.process.log());
}

async fn launch(worker: &Worker<'_>) -> Outage {
    let (mongodb, rabbitmq) = (shared_mongodb().await, shared_rabbitmq().await);
    let vhost = rabbitmq.fresh_vhost().await;
    let mut mongodb_proxy = ChaosProxy::start(mongodb.address()).await;
    let mut rabbitmq_proxy = ChaosProxy::start(rabbitmq.address()).await;
    mongodb_proxy.refuse().await;
    rabbitmq_proxy.refuse().await;
    let listen = format!("127.0.0.1:{}", free_port());
    let name = worker.program.rsplit('/').next().unwrap_or("worker");
    let launch = Process::named(name)
        .program(worker.program)
        .env("LISTEN", &listen)
        .env("GATEWAY_SIGNING_KEYS", GATEWAY_KEYS)
        .env("MONGODB_URI", mongodb.url_at(mongodb_proxy.address()))
        .env("MONGODB_DATABASE", mongodb.fresh_database())
        .env("AMQP_URL", vhost.url_at(rabbitmq_proxy.address()))
        .env("DRAIN_LAME_DUCK", "100ms")
        .env("SHUTDOWN_GRACE", "3s");
    let launch = worker
        .variables
        .iter()
        .fold(launch, |launch, (name, value)| launch.env(*name, value));
    let outage = Outage {
        process: launch.start(),
        http: Signed::new(format!("http://{listen}")),
        mongodb: mongodb_proxy,
        rabbitmq: rabbitmq_proxy,
    };
    eventually(SOON, async || {
        let live = outage.http.unsigned().get("/livez").try_send().await;
        live.is_ok_and(|reply| reply.status == 200)
    })
    .await;
    outage
}

fn is_ok(readiness: &Value, dependency: &str) -> bool {
    let all = readiness["dependencies"].as_array();
    all.into_iter()
        .flatten()
        .any(|status| status["name"] == dependency && status["ok"] == true)
}

#[track_caller]
fn assert_problem(reply: Reply, kind: &str) {
    let content_type = reply.header("content-type");
    assert_eq!(content_type, Some("application/problem+json"), "{reply:?}");
    assert_eq!(
        reply.json()["type"],
        format!("/problems/{kind}"),
        "{reply:?}"
    );
}
