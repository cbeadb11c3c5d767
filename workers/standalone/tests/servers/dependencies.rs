//! What the platforms of this binary run on: real servers.

use mongo::MongoSettings;
use runtime::secret::Secret;
use standalone::platform::Backend;
use testkit::{Redis, shared_mongodb, shared_rabbitmq};

use crate::backlog::Backlog;

/// The servers of one test.
pub(crate) struct Dependencies {
    mongo: MongoSettings,
    amqp_url: String,
    /// The test's own, which it may pause or kill.
    pub(crate) redis: Redis,
    backlog: Backlog,
}

impl Dependencies {
    /// A new database, virtual host and Redis.
    pub(crate) async fn fresh() -> Self {
        let vhost = shared_rabbitmq().await.fresh_vhost().await;
        Self::with_broker(&vhost.url()).await
    }

    /// The same with a broker that the test may pause or kill.
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

    /// Waits until every change is published and every event is applied.
    pub(crate) async fn drained(&self) {
        self.backlog.drained().await;
    }

    /// Asserts the same after the platform has stopped, when nothing can change any more.
    pub(crate) async fn is_empty(&self) {
        self.backlog.is_empty().await;
    }
}
