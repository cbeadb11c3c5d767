//! The stores and the bus of a platform: files of this process, or servers that run elsewhere. Only
//! this module chooses adapters.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use events::bus::Topology;
use events::outbox::Outbox;
use jiff::Timestamp;
use notifications_sqlite::SqliteNotifications;
use runtime::time::{Clock, SystemClock};
use sqlite::bus::EmbeddedBus;
use stores::StoreError;
use tasks_sqlite::SqliteTaskStore;
use tasks_sqlite::disk::DiskFiles;
use users_sqlite::SqliteUserStore;

/// The stores and the bus. Chosen once; every replica of a worker gets its adapters from it.
#[derive(Clone)]
pub enum Backend {
    Embedded(Arc<Embedded>),
    /// MongoDB and RabbitMQ.
    #[cfg(feature = "servers")]
    Servers {
        mongo: mongo::MongoSettings,
        amqp_url: runtime::secret::Secret,
    },
}

/// All queues of the platform.
fn topology() -> Topology {
    Topology::of(&[&tasks::consumer::QUEUES, &notifications::consumer::QUEUES])
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
    /// Opens the files in a folder, and creates missing ones. The caller must hold the folder locked: see
    /// [`crate::home::DataFolder`].
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            users: Arc::new(SqliteUserStore::open(&folder.join("users.db"))?),
            tasks: Arc::new(SqliteTaskStore::open(&folder.join("tasks.db"))?),
            files: Arc::new(open_files(&folder.join("attachments"))?),
            notifications: Arc::new(SqliteNotifications::open(&folder.join("notifications.db"))?),
            bus: Arc::new(EmbeddedBus::open(&folder.join("events.db"), topology())?),
        })
    }
}

fn open_files(folder: &Path) -> anyhow::Result<DiskFiles> {
    DiskFiles::open(folder).with_context(|| format!("cannot use the folder {}", folder.display()))
}

impl Embedded {
    /// A change that is not yet published, or events that are not yet applied; `None` when all work is
    /// done.
    pub async fn unfinished_work(&self) -> Result<Option<String>, StoreError> {
        for outbox in [&*self.users as &dyn Outbox, &*self.tasks] {
            if let Some(pending) = outbox.pending(Timestamp::MAX, 1).await?.first() {
                return Ok(Some(format!("{} waits to be published", pending.event.id)));
            }
        }
        let messages = self.bus.counts().await?.messages;
        Ok((messages > 0).then(|| format!("{messages} messages wait to be applied")))
    }
}

/// The adapters of one replica of each worker.
pub(super) struct Adapters {
    pub(super) user: users::Adapters,
    pub(super) task: tasks::Adapters,
    pub(super) notification: notifications::Adapters,
}

impl Backend {
    pub(super) async fn adapters(&self) -> anyhow::Result<Adapters> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        match self {
            Self::Embedded(embedded) => Ok(Adapters {
                user: users::Adapters {
                    store: embedded.users.clone(),
                    bus: embedded.bus.clone(),
                    clock,
                },
                task: tasks::Adapters {
                    store: embedded.tasks.clone(),
                    files: embedded.files.clone(),
                    bus: embedded.bus.clone(),
                },
                notification: notifications::Adapters {
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
    use events::bus::Bus;
    use mongo::MongoSettings;
    use notifications_mongo::MongoNotifications;
    use runtime::secret::Secret;
    use tasks_mongo::MongoTaskStore;
    use tasks_mongo::files::GridFsFiles;
    use users_mongo::MongoUserStore;

    use super::*;

    /// Each worker has its own connections, as it has in its own process.
    pub(super) async fn adapters(
        mongo: &MongoSettings,
        amqp_url: &Secret,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Adapters> {
        let bus = || -> anyhow::Result<Arc<dyn Bus>> { Ok(Arc::new(process::bus(amqp_url)?)) };
        let notifications = MongoNotifications::new(mongo::connect(mongo).await?);
        Ok(Adapters {
            user: users::Adapters {
                store: Arc::new(MongoUserStore::connect(mongo).await?),
                bus: bus()?,
                clock,
            },
            task: tasks::Adapters {
                store: Arc::new(MongoTaskStore::connect(mongo).await?),
                files: Arc::new(GridFsFiles::connect(mongo).await?),
                bus: bus()?,
            },
            notification: notifications::Adapters {
                store: Arc::new(notifications),
                bus: bus()?,
            },
        })
    }
}
