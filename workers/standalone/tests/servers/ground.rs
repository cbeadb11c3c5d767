//! What the platforms of this binary stand on: real servers.

use mongo::MongoSettings;
use runtime::secret::Secret;
use standalone::platform::Backend;
use testkit::{Redis, shared_mongodb, shared_rabbitmq};

use crate::backlog::Backlog;

pub(crate) struct Ground {
    mongo: MongoSettings,
    amqp_url: String,
    /// This test's own: it may be hurt.
    pub(crate) redis: Redis,
    backlog: Backlog,
}

impl Ground {
    /// A database, a virtual host and a Redis for one test.
    pub(crate) async fn fresh() -> Self {
        let vhost = shared_rabbitmq().await.fresh_vhost().await;
        Self::with_broker(&vhost.url()).await
    }

    /// The same with a broker that the test may hurt.
    pub(crate) async fn with_broker(amqp_url: &str) -> Self {
        let mongodb = shared_mongodb().await;
        let mongo = MongoSettings {
            uri: Secret::new(mongodb.url().to_string()),
            database: mongodb.fresh_database(),
        };
        Self {
            backlog: Backlog::of(&mongodb.url(), &mongo.database, amqp_url).await,
            mongo,
            amqp_url: amqp_url.to_owned(),
            redis: Redis::start().await,
        }
    }

    pub(crate) fn backend(&self) -> Backend {
        Backend::Servers {
            mongo: self.mongo.clone(),
            amqp_url: Secret::new(&self.amqp_url),
        }
    }

    pub(crate) fn mongo(&self) -> &MongoSettings {
        &self.mongo
    }

    pub(crate) fn redis_url(&self) -> String {
        self.redis.url()
    }

    pub(crate) fn gateways(&self) -> usize {
        2
    }

    /// Waits until every change is published and every event was taken.
    pub(crate) async fn drained(&self) {
        self.backlog.drained().await;
    }

    /// Asserts it, once nothing runs that could change it.
    pub(crate) async fn is_empty(&self) {
        self.backlog.is_empty().await;
    }
}
