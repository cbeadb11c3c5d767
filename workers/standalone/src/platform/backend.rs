//! What the workers of a platform stand on: files of this process, or servers that run elsewhere.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use jiff::Timestamp;
use notification_worker::store::sqlite::SqliteNotifications;
use shared::bus::embedded::EmbeddedBus;
use shared::outbox::Outbox;
use shared::store::StoreError;
use shared::time::{Clock, SystemClock};
use task_worker::store::disk::DiskFiles;
use task_worker::store::sqlite::SqliteTaskStore;
use user_worker::store::sqlite::SqliteUserStore;

/// Chosen once; every replica of a worker gets its adapters from it.
#[derive(Clone)]
pub enum Backend {
    Embedded(Arc<Embedded>),
    /// MongoDB and RabbitMQ, by the variables that the workers' own binaries read.
    #[cfg(feature = "servers")]
    Servers {
        mongo: shared::mongo::MongoSettings,
        amqp_url: shared::secret::Secret,
    },
}

/// One SQLite file for each worker, one for the events between them, and a folder of attachments.
pub struct Embedded {
    pub users: Arc<SqliteUserStore>,
    pub tasks: Arc<SqliteTaskStore>,
    pub files: Arc<DiskFiles>,
    pub notifications: Arc<SqliteNotifications>,
    pub bus: Arc<EmbeddedBus>,
}

impl Embedded {
    /// Opens the files in a folder, and makes those that are missing. The folder is the caller's
    /// alone: see [`crate::home::Home`].
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            users: Arc::new(SqliteUserStore::open(&folder.join("users.db"))?),
            tasks: Arc::new(SqliteTaskStore::open(&folder.join("tasks.db"))?),
            files: Arc::new(open_files(&folder.join("attachments"))?),
            notifications: Arc::new(SqliteNotifications::open(&folder.join("notifications.db"))?),
            bus: Arc::new(EmbeddedBus::open(&folder.join("events.db"))?),
        })
    }
}

fn open_files(folder: &Path) -> anyhow::Result<DiskFiles> {
    DiskFiles::open(folder).with_context(|| format!("cannot use the folder {}", folder.display()))
}

impl Embedded {
    /// What is still on its way from a change to those who are told of it; `None` at rest.
    pub async fn under_way(&self) -> Result<Option<String>, StoreError> {
        for outbox in [&*self.users as &dyn Outbox, &*self.tasks] {
            if let Some(pending) = outbox.pending(Timestamp::MAX, 1).await?.first() {
                return Ok(Some(format!("{} waits to be published", pending.event.id)));
            }
        }
        let messages = self.bus.counts().await?.messages;
        Ok((messages > 0).then(|| format!("{messages} messages wait to be applied")))
    }
}

/// For one replica of each worker.
pub(super) struct Adapters {
    pub(super) user: user_worker::Adapters,
    pub(super) task: task_worker::Adapters,
    pub(super) notification: notification_worker::Adapters,
}

impl Backend {
    pub(super) async fn adapters(&self) -> anyhow::Result<Adapters> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        match self {
            Self::Embedded(embedded) => Ok(Adapters {
                user: user_worker::Adapters {
                    store: embedded.users.clone(),
                    bus: embedded.bus.clone(),
                    clock,
                },
                task: task_worker::Adapters {
                    store: embedded.tasks.clone(),
                    files: embedded.files.clone(),
                    bus: embedded.bus.clone(),
                },
                notification: notification_worker::Adapters {
                    store: embedded.notifications.clone(),
                    bus: embedded.bus.clone(),
                },
            }),
            #[cfg(feature = "servers")]
            Self::Servers { mongo, amqp_url } => servers::adapters(mongo, amqp_url, clock).await,
        }
    }
}

#[cfg(feature = "servers")]
mod servers {
    use notification_worker::store::mongo::MongoNotifications;
    use shared::bus::Bus;
    use shared::bus::rabbit::RabbitBus;
    use shared::mongo::MongoSettings;
    use shared::secret::Secret;
    use task_worker::store::mongo::MongoTaskStore;
    use task_worker::store::mongo::files::GridFsFiles;
    use user_worker::store::mongo::MongoUserStore;

    use super::*;

    /// Each worker has connections of its own, as in a process of its own.
    pub(super) async fn adapters(
        mongo: &MongoSettings,
        amqp_url: &Secret,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Adapters> {
        let bus = || -> anyhow::Result<Arc<dyn Bus>> {
            Ok(Arc::new(
                RabbitBus::new(amqp_url).map_err(anyhow::Error::msg)?,
            ))
        };
        let notifications = MongoNotifications::new(shared::mongo::connect(mongo).await?);
        Ok(Adapters {
            user: user_worker::Adapters {
                store: Arc::new(MongoUserStore::connect(mongo).await?),
                bus: bus()?,
                clock,
            },
            task: task_worker::Adapters {
                store: Arc::new(MongoTaskStore::connect(mongo).await?),
                files: Arc::new(GridFsFiles::connect(mongo).await?),
                bus: bus()?,
            },
            notification: notification_worker::Adapters {
                store: Arc::new(notifications),
                bus: bus()?,
            },
        })
    }
}
