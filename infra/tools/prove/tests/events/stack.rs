//! The platform as processes, on servers that only this proof uses. Processes are restarted when they
//! end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use events::bus::Bus;
use http::Method;
use rabbitmq::RabbitBus;
use runtime::secret::Secret;
use serde_json::json;
use testkit::{
    ChaosProxy, Client, GATEWAY_KEYS, MongoDb, Process, RabbitMq, Redis, Vhost, binary, eventually,
    free_port,
};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::backlog::Backlog;

/// The kinds of processes, two processes each. The value is the index of the first one in
/// [`Stack::processes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Gateway = 0,
    User = 2,
    Task = 4,
    Notification = 6,
}

pub(crate) struct Stack {
    pub(crate) mongo: MongoDb,
    pub(crate) rabbit: RabbitMq,
    pub(crate) redis: Redis,
    /// Between the workers and their servers.
    pub(crate) to_mongo: ChaosProxy,
    pub(crate) to_rabbit: ChaosProxy,
    pub(crate) processes: Arc<Mutex<Vec<Process>>>,
    /// A folder. A file in it with the name of a fail point kills the next process that reaches the point.
    pub(crate) fail_points: PathBuf,
    _folder: tempfile::TempDir,
    vhost: Vhost,
    backlog: Backlog,
    gateways: Vec<String>,
    supervisor: JoinHandle<()>,
}

impl Stack {
    pub(crate) async fn start() -> Self {
        let (mongo, rabbit, redis) =
            tokio::join!(MongoDb::start(), RabbitMq::start(), Redis::start());
        let vhost = rabbit.fresh_vhost().await;
        let database = mongo.fresh_database();
        let to_mongo = ChaosProxy::start(mongo.address()).await;
        let to_rabbit = ChaosProxy::start(rabbit.address()).await;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let fail_points = folder.path().to_owned();

        let local = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let workers: Vec<SocketAddr> = std::iter::repeat_with(local).take(6).collect();
        let worker = |name: &str, address: SocketAddr| {
            Process::named(name)
                .program(binary(name))
                .env("LISTEN", address.to_string())
                .env("GATEWAY_SIGNING_KEYS", GATEWAY_KEYS)
                .env("TOKEN_SIGNING_KEYS", format!("t1:{}", "5a".repeat(32)))
                .env("MONGODB_URI", mongo.url_at(to_mongo.address()))
                .env("MONGODB_DATABASE", &database)
                .env("AMQP_URL", vhost.url_at(to_rabbit.address()))
                .env("DRAIN_LAME_DUCK", "10ms")
                .env("SHUTDOWN_GRACE", "5s")
                .env("SLUICE_FAIL_POINTS", &fail_points)
                .start()
        };
        let (mut processes, mut gateways, mut admins) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..2 {
            let (http, admin) = (local(), local());
            let launch = Process::named("gateway").program(binary("gateway"));
            let file = launch.file(
                "gateway.yaml",
                include_str!("../../../../../workers/standalone/tests/it/gateway.yaml"),
            );
            let mut launch = launch
                .arg("--config")
                .arg(file)
                .env("GATEWAY_LISTEN", http.to_string())
                .env("GATEWAY_ADMIN", admin.to_string())
                .env("GATEWAY_SIGNING_KEYS", GATEWAY_KEYS)
                .env("REDIS_URL", redis.url())
                .env("GATEWAYS", "2")
                // The configuration names this service, but no request goes to it.
                .env("ECHO", workers[0].to_string());
            for (service, pair) in ["USER", "TASK", "NOTIFICATION"]
                .iter()
                .zip(workers.chunks(2))
            {
                for (n, address) in pair.iter().enumerate() {
                    launch = launch.env(format!("{service}_WORKER_{}", n + 1), address.to_string());
                }
            }
            processes.push(launch.start());
            gateways.push(format!("http://{http}"));
            admins.push(Client::new(format!("http://{admin}")));
        }
        for (name, pair) in ["user-worker", "task-worker", "notification-worker"]
            .iter()
            .zip(workers.chunks(2))
        {
            processes.extend(pair.iter().map(|address| worker(name, *address)));
        }
        for address in &workers {
            admins.push(Client::new(format!("http://{address}")));
        }
        for admin in &admins {
            eventually(Duration::from_secs(60), async || {
                let reply = admin.get("/readyz").try_send().await;
                reply.is_ok_and(|reply| reply.status == 200)
            })
            .await;
        }
        let processes = Arc::new(Mutex::new(processes));
        Self {
            backlog: Backlog::of(&mongo.url(), &database, &vhost.url()).await,
            supervisor: tokio::spawn(supervise(processes.clone())),
            mongo,
            rabbit,
            redis,
            to_mongo,
            to_rabbit,
            processes,
            fail_points,
            _folder: folder,
            vhost,
            gateways,
        }
    }

    pub(crate) fn gateways(&self) -> Vec<String> {
        self.gateways.clone()
    }

    /// Deletes a queue, and waits until a worker has declared it again.
    pub(crate) async fn delete_queue(&self, name: &str) {
        let queues = format!("/api/queues/{}", self.vhost.name());
        let path = format!("{queues}/{name}");
        self.rabbit.manage(Method::DELETE, &path, json!({})).await;
        eventually(Duration::from_secs(60), async || {
            let queues = self.rabbit.manage(Method::GET, &queues, json!(null)).await;
            let mut queues = queues.as_array().into_iter().flatten();
            queues.any(|queue| queue["name"] == name)
        })
        .await;
    }

    /// Waits until every change is published and every event consumed. Returns what is still pending
    /// after `timeout`.
    pub(crate) async fn drained(&self, timeout: Duration) -> Option<String> {
        let end = Instant::now() + timeout;
        loop {
            match self.backlog.under_way().await {
                Ok(()) => return None,
                Err(what) if Instant::now() > end => return Some(what),
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    pub(crate) async fn dead_letters(&self) -> u64 {
        let bus = RabbitBus::new(
            &Secret::new(self.vhost.url()),
            events::bus::conformance::topology(),
        )
        .expect("a valid URL");
        bus.dead_letters().await.expect("the broker answers")
    }

    /// Terminates all processes, and checks that each drains and exits successfully.
    pub(crate) async fn stop(&self) {
        self.supervisor.abort();
        let mut processes = self.processes.lock().await;
        // The gateways are first in the list: while they drain, they need their workers.
        for process in processes.iter_mut() {
            let ended = process.terminate(Duration::from_secs(30)).await;
            assert!(ended.success(), "{}: {ended}", process.name());
        }
    }
}

/// Restarts processes that have ended, as s6, Compose or Kubernetes do.
async fn supervise(processes: Arc<Mutex<Vec<Process>>>) {
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        for process in processes.lock().await.iter_mut() {
            if !process.is_running() {
                process.start_again();
            }
        }
    }
}
