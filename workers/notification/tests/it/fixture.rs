//! What the tests share: a virtual host and a database for each test, workers, and events.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bson::{Document, doc};
use contract::event::{Envelope, EventType, UserDeleted};
use contract::id::{NotificationId, TaskId, UserId};
use events::bus::{Bus, DEAD_LETTER, PublishOutcome, Subscription};
use events::consumer::Step;
use jiff::{SignedDuration, Timestamp};
use mongo::MongoSettings;
use notification_worker::{DEFAULT_PORT, run};
use notifications::consumer::{self, Consumer, QUEUES};
use notifications::domain::{Event, TaskEvent, TaskNotifications};
use notifications::store::NotificationStore;
use notifications_mongo::MongoNotifications;
use process::Config;
use rabbitmq::RabbitBus;
use runtime::secret::Secret;
use runtime::supervise::CancellationToken;
use runtime::time::SystemClock;
use serde_json::{Value, json};
use testkit::{
    GATEWAY_KEYS, Process, Signed, Vhost, free_port, shared_mongodb, shared_rabbitmq, unique,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The deadline for what takes milliseconds on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) struct Fixture {
    vhost: Vhost,
    mongo_url: String,
    database: String,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::on(&shared_mongodb().await.url()).await
    }

    /// The same with the test's own MongoDB, which it may pause or kill.
    pub(crate) async fn on(mongo_url: &str) -> Self {
        Self {
            vhost: shared_rabbitmq().await.fresh_vhost().await,
            mongo_url: mongo_url.to_owned(),
            database: unique("test"),
        }
    }

    pub(crate) fn bus(&self) -> RabbitBus {
        RabbitBus::new(
            &Secret::new(self.vhost.url()),
            events::bus::conformance::topology(),
        )
        .expect("a URL")
    }

    pub(crate) fn amqp_url(&self) -> String {
        self.vhost.url()
    }

    pub(crate) async fn subscribe(&self) -> Box<dyn Subscription> {
        self.bus()
            .subscribe(&QUEUES, 500)
            .await
            .expect("the bus is there")
    }

    pub(crate) async fn publish(&self, events: &[Envelope]) {
        let outcomes = self.bus().publish(events).await.expect("the bus is there");
        assert!(
            outcomes
                .iter()
                .all(|outcome| *outcome == PublishOutcome::Confirmed),
            "{outcomes:?}"
        );
    }

    /// Puts arbitrary bytes into the queue of an event type; a relay would publish only events.
    pub(crate) async fn publish_raw(&self, event_type: EventType, body: &[u8]) {
        let (vhost, exchange) = (self.vhost.name(), event_type.exchange());
        let path = format!("/api/exchanges/{vhost}/{exchange}/publish");
        let message = json!({
            "properties": {"delivery_mode": 2},
            "routing_key": event_type.as_str(),
            "payload": BASE64_STANDARD.encode(body),
            "payload_encoding": "base64",
        });
        let routed = self.manage(&path, message).await;
        assert_eq!(routed, json!({"routed": true}));
    }

    /// The messages in the dead-letter queue, at most ten.
    pub(crate) async fn dead_letters(&self) -> Vec<Value> {
        let path = format!("/api/queues/{}/{DEAD_LETTER}/get", self.vhost.name());
        let get = json!({"count": 10, "ackmode": "ack_requeue_true", "encoding": "base64"});
        self.manage(&path, get)
            .await
            .as_array()
            .expect("a list")
            .clone()
    }

    async fn manage(&self, path: &str, body: Value) -> Value {
        let rabbitmq = shared_rabbitmq().await;
        rabbitmq.manage(::http::Method::POST, path, body).await
    }

    fn settings(&self) -> MongoSettings {
        MongoSettings {
            uri: Secret::new(&self.mongo_url),
            database: self.database.clone(),
        }
    }

    /// The database, for what the store does not show, with its own connections.
    pub(crate) async fn database(&self) -> mongodb::Database {
        mongo::connect(&self.settings()).await.expect("a URL")
    }

    /// A store with its own connections, like that of another process.
    pub(crate) async fn store(&self) -> Arc<dyn NotificationStore> {
        let store = MongoNotifications::new(self.database().await);
        store.prepare().await.expect("the store is there");
        Arc::new(store)
    }

    /// Inserts an unreadable counter for a user.
    pub(crate) async fn break_counter(&self, user: &UserId) {
        let database = self.database().await;
        let counters = database.collection("counters");
        let broken = doc! {"_id": user.as_str(), "purged": "a text"};
        counters
            .insert_one(broken)
            .await
            .expect("the store is there");
    }

    /// Copies a user's only notification until there are `count`, counters included. Faster than applying
    /// that many events.
    pub(crate) async fn multiply(&self, user: &UserId, count: i64) {
        let database = self.database().await;
        let notifications = database.collection::<Document>("notifications");
        let this = doc! {"user_id": user.as_str()};
        let one = notifications.find_one(this).await.expect("it is there");
        let one = one.expect("a notification");
        let copy = |sequence| {
            let mut copy = one.clone();
            copy.insert("_id", NotificationId::new().as_str());
            copy.insert("sequence", sequence);
            copy
        };
        let copies: Vec<_> = (2..=count).map(copy).collect();
        for part in copies.chunks(1_000) {
            notifications.insert_many(part).await.expect("it is there");
        }
        let counters = database.collection::<Document>("counters");
        let counted = doc! {"$set": {"sequence": count, "unread": count}};
        let this = doc! {"_id": user.as_str()};
        counters
            .update_one(this, counted)
            .await
            .expect("it is there");
    }

    /// Leaves a transaction on a user's counter open, like a worker that is killed in the middle of it.
    pub(crate) async fn die_in_the_middle(&self, user: &UserId) {
        let database = self.database().await;
        let counters = database.collection::<Document>("counters");
        let mut session = database
            .client()
            .start_session()
            .await
            .expect("the store is there");
        session
            .start_transaction()
            .await
            .expect("the store is there");
        let count = doc! {"$inc": {"sequence": 1_i64}};
        let counted = counters.update_one(doc! {"_id": user.as_str()}, count);
        counted
            .session(&mut session)
            .await
            .expect("the store is there");
        // Dropping the session would end the transaction.
        std::mem::forget(session);
    }

    pub(crate) async fn consumer(&self) -> Consumer {
        let registry = prometheus::Registry::new();
        let bus = Arc::new(self.bus());
        consumer::new(self.store().await, bus, Arc::new(SystemClock), &registry)
    }

    /// The environment variables of a worker.
    fn variables(&self) -> HashMap<String, String> {
        [
            ("GATEWAY_SIGNING_KEYS", GATEWAY_KEYS.to_owned()),
            ("MONGODB_URI", self.mongo_url.clone()),
            ("MONGODB_DATABASE", self.database.clone()),
            ("AMQP_URL", self.vhost.url()),
            ("DRAIN_LAME_DUCK", "10ms".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// A worker in its own process, which the test may kill.
    pub(crate) fn process(&self) -> Process {
        self.process_on(free_port())
    }

    pub(crate) fn process_on(&self, port: u16) -> Process {
        let listen = format!("127.0.0.1:{port}");
        let launch = Process::named("notification-worker")
            .program(env!("CARGO_BIN_EXE_notification-worker"))
            .env("LISTEN", listen);
        let variables = self.variables();
        let launch = variables
            .iter()
            .fold(launch, |l, (name, value)| l.env(name, value));
        launch.start()
    }

    /// A worker inside the test. It drains when dropped.
    pub(crate) async fn worker(&self) -> Worker {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let shutdown = CancellationToken::new();
        let config = Config::only(&self.variables(), DEFAULT_PORT).expect("all are set");
        Worker {
            http: Signed::new(format!("http://{address}")),
            task: tokio::spawn(run(listener, config, shutdown.clone())),
            shutdown,
        }
    }
}

pub(crate) struct Worker {
    pub(crate) http: Signed,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<anyhow::Result<()>>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// How many notifications of a user are in the database, read without the store.
pub(crate) async fn left(database: &mongodb::Database, user: &UserId) -> u64 {
    let notifications = database.collection::<Document>("notifications");
    let this = doc! {"user_id": user.as_str()};
    let count = notifications.count_documents(this).await;
    count.expect("the store is there")
}

/// Consumes until `count` deliveries are settled.
pub(crate) async fn drain(consumer: &Consumer, from: &mut dyn Subscription, count: usize) -> Step {
    let never = CancellationToken::new();
    let mut sum = Step::default();
    while sum.applied + sum.duplicates + sum.dead_lettered < count {
        let step = timeout(SOON, consumer.consume_once(from, &never)).await;
        let step = step
            .expect("deliveries within 30 s")
            .expect("the bus is there");
        sum.applied += step.applied;
        sum.duplicates += step.duplicates;
        sum.dead_lettered += step.dead_lettered;
    }
    sum
}

/// A task and its users.
#[derive(Clone)]
pub(crate) struct Task {
    pub(crate) id: TaskId,
    pub(crate) owner: UserId,
    pub(crate) assignee: Option<UserId>,
    pub(crate) actor: UserId,
    pub(crate) born: Timestamp,
}

impl Task {
    /// Owned by a new user, who also acts.
    pub(crate) fn new() -> Self {
        Self::of(&UserId::new())
    }

    pub(crate) fn of(owner: &UserId) -> Self {
        Self {
            id: TaskId::new(),
            owner: owner.clone(),
            assignee: None,
            actor: owner.clone(),
            born: contract::time::whole_millis(Timestamp::now()),
        }
    }

    /// The event of a version: version 1 creates the task, later ones update it.
    pub(crate) fn event(&self, version: u64) -> Envelope {
        match version {
            1 => self.event_of(EventType::TaskCreated, version),
            _ => self.event_of(EventType::TaskUpdated, version),
        }
    }

    pub(crate) fn event_of(&self, event_type: EventType, version: u64) -> Envelope {
        let data = json!({
            "task": {
                "id": self.id, "version": version, "title": format!("version {version}"),
                "status": "todo", "priority": "normal", "owner_id": self.owner,
                "assignee_id": self.assignee,
            },
            "changed": ["title"],
            "actor_id": self.actor,
        });
        let time = self.born + SignedDuration::from_millis(version.cast_signed());
        Envelope::new("/test", event_type, self.id.as_str(), version, time, data)
    }

    /// The same event, as it is passed to the store.
    pub(crate) fn store_event(&self, version: u64) -> Event {
        let event = self.event(version);
        let body = serde_json::to_vec(&event).expect("JSON");
        let event = TaskEvent::parse(&body, event.event_type).expect("well formed");
        Event::Task(TaskNotifications::new(&event, event.time))
    }
}

/// The event of a deleted account.
pub(crate) fn deleted(user: &UserId) -> Envelope {
    let deleted = UserDeleted {
        user_id: user.clone(),
        at: contract::time::whole_millis(Timestamp::now()),
    };
    deleted.event("/test", 3)
}

pub(crate) fn events(task: &Task, versions: std::ops::RangeInclusive<u64>) -> Vec<Envelope> {
    versions.map(|version| task.event(version)).collect()
}
