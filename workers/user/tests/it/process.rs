//! The binary: preparing a replica set, serving on it, the health check and the drain.

use std::time::Duration;

use serde_json::json;
use testkit::{GATEWAY_KEYS, Launch, Process, Signed, eventually, free_port, mongod};

use crate::platform::PASSWORD;

const WORKER: &str = env!("CARGO_BIN_EXE_user-worker");

fn start_mongod(port: u16, options: &[&str]) -> Process {
    let launch =
        Process::named("mongod").program(mongod().expect("mongod is installed by `make test`"));
    std::fs::create_dir(launch.folder().join("data")).expect("the folder is ours");
    launch
        .args([
            "--dbpath",
            "data",
            "--bind_ip",
            "127.0.0.1",
            "--port",
            &port.to_string(),
        ])
        .args([
            "--nounixsocket",
            "--oplogSize",
            "64",
            "--wiredTigerCacheSizeGB",
            "0.25",
        ])
        .args(options)
        .start()
}

fn prepare_mongo(port: u16, host: &str) -> Launch {
    Process::named("prepare-mongo").program(WORKER).args([
        "prepare-mongo",
        "--uri",
        &format!("mongodb://127.0.0.1:{port}/"),
        "--host",
        host,
    ])
}

/// Runs the process to its end. Returns whether it succeeded, and its output.
async fn finished(launch: Launch) -> (bool, String) {
    let mut process = launch.start();
    let status = process.wait(Duration::from_secs(40)).await;
    (status.success(), process.log())
}

#[tokio::test]
async fn the_binary_prepares_a_mongod_serves_on_it_and_drains() {
    let port = free_port();
    let host = format!("127.0.0.1:{port}");
    let _mongod = start_mongod(port, &["--replSet", "rs0"]);
    let (first, second) = tokio::join!(
        finished(prepare_mongo(port, &host)),
        finished(prepare_mongo(port, &host))
    );
    assert!(first.0 && second.0, "{first:?} {second:?}");
    let again = finished(prepare_mongo(port, &host)).await;
    assert_eq!(again, (true, String::new()));
    let (moved, said) = finished(prepare_mongo(port, "127.0.0.1:1")).await;
    assert!(!moved && said.contains(&host), "{said}");

    let listen = format!("127.0.0.1:{}", free_port());
    let worker = |command: &str| {
        Process::named("user-worker")
            .program(WORKER)
            .arg(command)
            .env("LISTEN", &listen)
            .env("GATEWAY_SIGNING_KEYS", GATEWAY_KEYS)
            .env("TOKEN_SIGNING_KEYS", format!("t1:{}", "07".repeat(32)))
            .env("MONGODB_URI", format!("mongodb://{host}/?replicaSet=rs0"))
            .env("AMQP_URL", "amqp://127.0.0.1:1")
            .env("DRAIN_LAME_DUCK", "1ms")
    };
    let mut process = worker("serve").start();
    eventually(Duration::from_secs(10), || async {
        let (healthy, said) = finished(worker("healthcheck")).await;
        healthy && said.contains(r#""status":"ready""#)
    })
    .await;

    let gateway = Signed::new(format!("http://{listen}"));
    let user =
        json!({"email": "ada.lovelace@example.org", "password": PASSWORD, "name": "Ada Lovelace"});
    gateway
        .post("/api/users/register")
        .json(&user)
        .send()
        .await
        .expect(201);
    gateway
        .post("/api/users/register")
        .json(&user)
        .send()
        .await
        .expect(409);
    let login = json!({"email": user["email"], "password": PASSWORD});
    gateway
        .post("/api/users/login")
        .json(&login)
        .send()
        .await
        .expect(200);

    assert!(process.terminate(Duration::from_secs(10)).await.success());
    let log = process.log().to_lowercase();
    assert!(
        !log.contains("lovelace") && !log.contains("horse") && !log.contains("argon2id"),
        "{log}"
    );
    assert!(!finished(worker("healthcheck")).await.0);
}

#[tokio::test]
async fn a_mongod_that_cannot_be_a_replica_set_is_refused_with_what_to_do() {
    let port = free_port();
    let _mongod = start_mongod(port, &[]);
    let (prepared, said) = finished(prepare_mongo(port, &format!("127.0.0.1:{port}"))).await;
    assert!(
        !prepared && said.contains("start mongod with --replSet rs0"),
        "{said}"
    );
}

#[tokio::test]
async fn an_unusable_environment_is_reported_whole() {
    let serve = Process::named("user-worker")
        .program(WORKER)
        .env("TOKEN_SIGNING_KEYS", "t1:00");
    let (served, said) = finished(serve).await;
    assert!(!served);
    for name in [
        "GATEWAY_SIGNING_KEYS",
        "MONGODB_URI",
        "AMQP_URL",
        "TOKEN_SIGNING_KEYS",
    ] {
        assert!(said.contains(name), "{said}");
    }
}
