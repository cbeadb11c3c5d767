//! The real servers of the test kit: each serves, hangs, dies and comes back with its data.

use std::time::Duration;

use bson::doc;
use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use testkit::{
    Client, MongoDb, Nginx, RabbitMq, Redis, eventually, shared_mongodb, shared_rabbitmq,
    shared_redis,
};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);
const MOMENT: Duration = Duration::from_millis(200);

// === Redis ===

#[tokio::test]
async fn redis_keeps_its_data_when_it_is_killed_and_restarted() {
    let mut redis = Redis::start().await;
    assert_eq!(redis.command("SET key value").await, "+OK");
    redis.kill();
    assert!(
        tokio::net::TcpStream::connect(redis.address())
            .await
            .is_err()
    );
    redis.restart().await;
    assert_eq!(redis.command("GET key").await, "$5\r\nvalue");
    redis.restart_empty().await;
    assert_eq!(redis.command("GET key").await, "$-1");
}

#[tokio::test]
async fn a_paused_redis_says_nothing_until_it_is_resumed() {
    let mut redis = Redis::start().await;
    redis.pause();
    assert!(timeout(MOMENT, redis.command("PING")).await.is_err());
    redis.resume();
    assert_eq!(redis.command("PING").await, "+PONG");
}

#[tokio::test]
async fn all_tests_share_one_redis_and_keep_apart_by_prefix() {
    let (one, other) = tokio::join!(shared_redis(), shared_redis());
    assert_eq!(one.url(), other.url());
    assert_ne!(one.key_prefix(), other.key_prefix());
    assert_eq!(one.command("PING").await, "+PONG");
}

// === MongoDB ===

async fn mongo(url: &str) -> mongodb::Client {
    mongodb::Client::with_uri_str(url).await.unwrap()
}

#[tokio::test]
async fn mongodb_keeps_acknowledged_writes_when_it_is_killed_and_restarted() {
    let mut mongodb = MongoDb::start().await;
    let database = mongodb.fresh_database();
    let things = mongo(&mongodb.url())
        .await
        .database(&database)
        .collection("things");
    things.insert_one(doc! { "_id": 1 }).await.unwrap();
    mongodb.kill();
    mongodb.restart().await;
    let things = mongo(&mongodb.url())
        .await
        .database(&database)
        .collection("things");
    assert_eq!(
        things.find_one(doc! {}).await.unwrap(),
        Some(doc! { "_id": 1 })
    );
}

#[tokio::test]
async fn a_paused_mongodb_says_nothing_until_it_is_resumed() {
    let mut mongodb = MongoDb::start().await;
    let admin = mongo(&mongodb.url()).await.database("admin");
    admin.run_command(doc! { "ping": 1 }).await.unwrap();
    mongodb.pause();
    let ping = tokio::spawn(async move { admin.run_command(doc! { "ping": 1 }).await });
    tokio::pin!(ping);
    assert!(timeout(MOMENT, &mut ping).await.is_err());
    mongodb.resume();
    assert!(ping.await.unwrap().is_ok());
}

#[tokio::test]
async fn mongodb_has_transactions_and_change_streams_directly_and_discovered() {
    let mongodb = shared_mongodb().await;
    for url in [mongodb.url(), mongodb.url_at(mongodb.address())] {
        let client = mongo(&url).await;
        let database = client.database(&mongodb.fresh_database());
        let things = database.collection("things");
        things.insert_one(doc! { "_id": 0 }).await.unwrap();
        let mut changes = things.watch().await.unwrap();

        let mut session = client.start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        things
            .insert_one(doc! { "_id": 1 })
            .session(&mut session)
            .await
            .unwrap();
        assert_eq!(things.count_documents(doc! {}).await.unwrap(), 1);
        session.commit_transaction().await.unwrap();

        let change = timeout(SOON, changes.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(change.full_document, Some(doc! { "_id": 1 }));
    }
}

// === RabbitMQ ===

async fn channel(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .unwrap();
    (connection, channel)
}

async fn declare(channel: &Channel) {
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare("facts".into(), options, arguments)
        .await
        .unwrap();
}

async fn publish(channel: &Channel, body: &[u8]) -> Confirmation {
    let properties = BasicProperties::default().with_delivery_mode(2);
    let options = BasicPublishOptions::default();
    let published = channel.basic_publish("".into(), "facts".into(), options, body, properties);
    published.await.unwrap().await.unwrap()
}

async fn consume_one(channel: &Channel) -> Vec<u8> {
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume("facts".into(), "".into(), options, FieldTable::default());
    let mut consumer = consumer.await.unwrap();
    consumer.next().await.unwrap().unwrap().data
}

#[tokio::test]
async fn rabbitmq_hangs_when_paused_and_keeps_confirmed_messages_when_killed() {
    let mut rabbitmq = RabbitMq::start().await;
    let vhost = rabbitmq.fresh_vhost().await;
    let (_connection, before) = channel(&vhost.url()).await;
    declare(&before).await;
    assert!(publish(&before, b"first").await.is_ack());

    rabbitmq.pause();
    let publishing = publish(&before, b"second");
    tokio::pin!(publishing);
    assert!(timeout(MOMENT, &mut publishing).await.is_err());
    rabbitmq.resume();
    assert!(publishing.await.is_ack());

    rabbitmq.settle().await;
    rabbitmq.kill();
    assert!(
        tokio::net::TcpStream::connect(rabbitmq.address())
            .await
            .is_err()
    );
    rabbitmq.restart().await;
    let (_connection, after) = channel(&vhost.url()).await;
    assert_eq!(timeout(SOON, consume_one(&after)).await.unwrap(), b"first");
}

#[tokio::test]
async fn a_virtual_host_has_its_own_queues() {
    let rabbitmq = shared_rabbitmq().await;
    let (mine, other) = tokio::join!(rabbitmq.fresh_vhost(), rabbitmq.fresh_vhost());
    let (_mine, mine) = channel(&mine.url()).await;
    declare(&mine).await;
    let (_other, other) = channel(&other.url()).await;
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    assert!(
        other
            .queue_declare("facts".into(), options, FieldTable::default())
            .await
            .is_err()
    );
}

// === nginx ===

#[tokio::test]
async fn nginx_serves_the_given_configuration_and_reloads_it() {
    let conf = |port: u16, word: &str| {
        format!(
            "pid nginx.pid;\nevents {{}}\nhttp {{ access_log off; server {{ \
             listen 127.0.0.1:{port}; location / {{ return 200 {word}; }} }} }}"
        )
    };
    let mut nginx = Nginx::start(|port| conf(port, "before")).await;
    let client = Client::new(nginx.url());
    assert_eq!(client.get("/").send().await.expect(200).text(), "before");

    let port = nginx.address().port();
    std::fs::write(
        nginx.process().folder().join("nginx.conf"),
        conf(port, "after"),
    )
    .unwrap();
    nginx.process().sighup();
    eventually(SOON, async || {
        client.get("/").send().await.text() == "after"
    })
    .await;
}
