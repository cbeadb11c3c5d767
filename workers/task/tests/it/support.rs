//! A task worker in this process, on real servers, and what the tests share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use contract::event::Envelope;
use events::bus::Bus;
use events::bus::conformance::{TASK_QUEUES, declared, event, topology};
use events::outbox::Outbox;
use jiff::Timestamp;
use mongo::MongoSettings;
use rabbitmq::RabbitBus;
use runtime::secret::Secret;
use runtime::supervise::CancellationToken;
use runtime::time::Clock;
use serde_json::{Value, json};
use task_worker::{Config, run};
use tasks_mongo::MongoTaskStore;
use testkit::{GATEWAY_KEYS, Reply, Signed, Vhost, eventually, shared_mongodb, shared_rabbitmq};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const MARKER: &str = "marker";

pub(crate) struct Worker {
    pub(crate) http: Signed,
    pub(crate) store: MongoTaskStore,
    pub(crate) address: SocketAddr,
    pub(crate) amqp_url: String,
    shutdown: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Worker {
    /// On the shared servers, with a database and a virtual host of its own.
    pub(crate) async fn start() -> Self {
        let rabbit = broker().await;
        let mongo = shared_mongodb().await;
        Self::with(&mongo.url(), &mongo.fresh_database(), &rabbit.url()).await
    }

    /// Starts a worker and waits until it is ready.
    pub(crate) async fn with(mongo_url: &str, database: &str, amqp_url: &str) -> Self {
        let worker = Self::launch(mongo_url, database, amqp_url).await;
        ready(&worker.http).await;
        worker
    }

    /// Starts a worker without waiting for it.
    pub(crate) async fn launch(mongo_url: &str, database: &str, amqp_url: &str) -> Self {
        let variables = [
            ("GATEWAY_SIGNING_KEYS", GATEWAY_KEYS),
            ("MONGODB_URI", mongo_url),
            ("MONGODB_DATABASE", database),
            ("AMQP_URL", amqp_url),
            ("DRAIN_LAME_DUCK", "1ms"),
            ("MAX_FILE_BYTES", "2000000"),
        ];
        let variables: HashMap<_, _> = variables
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let config = Config::read(&variables).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let http = Signed::new(format!("http://{address}"));
        let shutdown = CancellationToken::new();
        Self {
            http,
            address,
            store: store(mongo_url, database).await,
            amqp_url: amqp_url.to_owned(),
            running: tokio::spawn(run(listener, config, shutdown.clone())),
            shutdown,
        }
    }

    pub(crate) fn as_user(&self, user: &str) -> Signed {
        self.http.as_user(user)
    }

    /// Stops the worker, which then publishes the events of everything it has answered. Returns all
    /// events in the queues: each queue in its order, duplicates included.
    pub(crate) async fn events(self) -> Vec<Envelope> {
        let bus = bus(&self.amqp_url);
        self.outbox_empties().await;
        self.stop().await;
        // Nobody publishes any more, so the markers come after every event.
        let markers = TASK_QUEUES.map(|queue| event(queue.event_type, MARKER, 1));
        bus.publish(&markers).await.unwrap();
        let mut subscription = bus.subscribe(&TASK_QUEUES, 300).await.unwrap();
        let (mut events, mut left) = (Vec::new(), markers.len());
        while left > 0 {
            let batch = subscription.next_batch(100).await.unwrap();
            subscription.ack(&batch).await.unwrap();
            for delivery in batch {
                let event: Envelope = serde_json::from_slice(&delivery.body).unwrap();
                match event.subject == MARKER {
                    true => left -= 1,
                    false => events.push(event),
                }
            }
        }
        events
    }

    /// Waits until every event is published. The first connection to the broker takes a while.
    pub(crate) async fn outbox_empties(&self) {
        eventually(Duration::from_secs(30), || async {
            match self.store.backlog().await.unwrap().subjects {
                0 => Ok(()),
                waiting => Err(format!("{waiting} tasks have unpublished events")),
            }
        })
        .await;
    }

    /// Drains the worker, which publishes every hinted event, and waits until it has ended.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap().unwrap();
    }
}

/// A bus that knows the queues of all consumers.
pub(crate) fn bus(url: &str) -> RabbitBus {
    RabbitBus::new(&Secret::new(url), topology()).unwrap()
}

/// A virtual host for this test alone, with all queues declared.
pub(crate) async fn broker() -> Vhost {
    let vhost = shared_rabbitmq().await.fresh_vhost().await;
    let bus = bus(&vhost.url());
    declared(&bus, "tasks").await;
    vhost
}

pub(crate) async fn ready(worker: &Signed) {
    eventually(Duration::from_secs(30), async || {
        let reply = worker.unsigned().get("/readyz").try_send().await;
        let reply = reply.map_err(|error| error.to_string())?;
        reply.status.is_success().then_some(()).ok_or(reply.text())
    })
    .await;
}

/// A clock that the test sets.
pub(crate) struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    pub(crate) fn at(now: Timestamp) -> Self {
        Self(Mutex::new(now))
    }

    pub(crate) fn set(&self, now: Timestamp) {
        *self.0.lock().unwrap() = now;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

pub(crate) async fn store(url: &str, database: &str) -> MongoTaskStore {
    let settings = MongoSettings {
        uri: Secret::new(url),
        database: database.to_owned(),
    };
    MongoTaskStore::connect(&settings).await.unwrap()
}

/// The content of a file of this size.
pub(crate) fn content(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n % 251) as u8).collect()
}

pub(crate) async fn create(user: &Signed, body: Value) -> Value {
    user.post("/api/tasks")
        .json(&body)
        .send()
        .await
        .expect(201)
        .json()
}

pub(crate) async fn create_titled(user: &Signed, title: &str) -> Value {
    create(user, json!({"title": title})).await
}

pub(crate) fn path(task: &Value) -> String {
    format!("/api/tasks/{}", task["id"].as_str().unwrap())
}

pub(crate) fn pointers(reply: &Reply) -> Vec<String> {
    let body = reply.json();
    let errors = body["errors"].as_array().unwrap();
    errors
        .iter()
        .map(|error| error["pointer"].as_str().unwrap().to_owned())
        .collect()
}
