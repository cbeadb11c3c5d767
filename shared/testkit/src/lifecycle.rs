//! What every worker's process owes those around it when its servers are away. One suite for all
//! workers: each gives its binary, its variables and a request that needs its store.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{
    ChaosProxy, GATEWAY_KEYS, Process, Reply, Signed, eventually, free_port, shared_mongodb,
    shared_rabbitmq,
};

/// How long everything may take to be back once the servers are.
const BACK: Duration = Duration::from_secs(5);

/// A worker's binary.
pub struct Worker<'a> {
    /// `env!("CARGO_BIN_EXE_…")`
    pub program: &'a str,
    /// What it needs besides the variables of every worker.
    pub variables: &'a [(&'a str, &'a str)],
    /// A path whose GET asks the store, and what it answers to somebody new.
    pub path: &'a str,
    pub answer: u16,
}

/// A worker and the network between it and its servers, which is down at first.
struct Away {
    process: Process,
    http: Signed,
    mongodb: ChaosProxy,
    rabbitmq: ChaosProxy,
}

/// It starts, stays up, is live and not ready, answers 503 problems, and is ready within 5 s of the
/// return of MongoDB and RabbitMQ.
pub async fn a_worker_lives_without_its_servers_and_is_ready_when_they_return(worker: Worker<'_>) {
    let mut away = launch(&worker).await;
    let (_, somebody) = away.http.as_somebody();
    let operations = away.http.unsigned();

    let not_ready = operations.get("/readyz").send().await.expect(503).json();
    assert!(!is_ok(&not_ready, "mongodb"), "{not_ready}");
    assert!(!is_ok(&not_ready, "rabbitmq"), "{not_ready}");
    let refused = somebody.get(worker.path).send().await;
    assert_problem(refused.clone().expect(503), "service-unavailable");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    let unsigned = operations.get(worker.path).send().await.expect(401);
    assert_problem(unsigned, "unauthenticated");
    operations.get("/livez").send().await.expect(200);
    assert!(away.process.is_running(), "{}", away.process.log());

    away.mongodb.restore().await;
    away.rabbitmq.restore().await;
    let back = Instant::now();
    eventually(BACK, async || {
        let ready = operations.get("/readyz").send().await;
        let body = ready.json();
        ready.status == 200 && is_ok(&body, "mongodb") && is_ok(&body, "rabbitmq")
    })
    .await;
    eprintln!(
        "{} was ready after {:?}",
        away.process.name(),
        back.elapsed()
    );
    somebody.get(worker.path).send().await.expect(worker.answer);
}

/// With nothing there it ends in order, and does not wait for what will not come.
pub async fn a_worker_without_its_servers_ends_when_it_is_told_to(worker: Worker<'_>) {
    let mut away = launch(&worker).await;
    let ended = away.process.terminate(BACK).await;
    assert!(ended.success(), "{}", away.process.log());
}

async fn launch(worker: &Worker<'_>) -> Away {
    let (mongodb, rabbitmq) = (shared_mongodb().await, shared_rabbitmq().await);
    let vhost = rabbitmq.fresh_vhost().await;
    let mut mongodb_away = ChaosProxy::start(mongodb.address()).await;
    let mut rabbitmq_away = ChaosProxy::start(rabbitmq.address()).await;
    mongodb_away.refuse().await;
    rabbitmq_away.refuse().await;
    let listen = format!("127.0.0.1:{}", free_port());
    let name = worker.program.rsplit('/').next().unwrap_or("worker");
    let launch = Process::named(name)
        .program(worker.program)
        .env("LISTEN", &listen)
        .env("GATEWAY_SIGNING_KEYS", GATEWAY_KEYS)
        .env("MONGODB_URI", mongodb.url_at(mongodb_away.address()))
        .env("MONGODB_DATABASE", mongodb.fresh_database())
        .env("AMQP_URL", vhost.url_at(rabbitmq_away.address()))
        .env("DRAIN_LAME_DUCK", "100ms")
        .env("SHUTDOWN_GRACE", "3s");
    let launch = worker
        .variables
        .iter()
        .fold(launch, |launch, (name, value)| launch.env(*name, value));
    let away = Away {
        process: launch.start(),
        http: Signed::new(format!("http://{listen}")),
        mongodb: mongodb_away,
        rabbitmq: rabbitmq_away,
    };
    eventually(BACK, async || {
        let live = away.http.unsigned().get("/livez").try_send().await;
        live.is_ok_and(|reply| reply.status == 200)
    })
    .await;
    away
}

fn is_ok(readiness: &Value, dependency: &str) -> bool {
    let all = readiness["dependencies"].as_array();
    all.into_iter()
        .flatten()
        .any(|one| one["name"] == dependency && one["ok"] == true)
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
