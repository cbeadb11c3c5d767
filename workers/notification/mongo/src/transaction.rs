//! Runs transactions. After a write conflict a transaction starts over, for as long as its caller
//! waits. The store's operations use it.

use std::time::{Duration, Instant};

use bson::doc;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryStreamExt};
use mongo::APP_NAME;
use mongodb::ClientSession;
use mongodb::error::{Error, Result as MongoResult};
use mongodb::options::ReadConcern;

use super::store::MongoNotifications;

/// After this time no transaction starts over: its caller is about to give up.
pub(super) const RETRY_FOR: Duration = Duration::from_secs(4);

/// After how many failed attempts to look for abandoned transactions.
const ATTEMPTS_PER_CHECK: u32 = 4;
/// A transaction of this platform that is idle and has been open for longer than this has lost its
/// process.
const ABANDONED: Duration = Duration::from_secs(3);

/// The work of a transaction. It must be repeatable and have no effect outside its session.
pub(super) type Work<C, T> = for<'a> fn(
    &'a MongoNotifications,
    &'a mut ClientSession,
    &'a C,
) -> BoxFuture<'a, MongoResult<T>>;

/// All attempts at one transaction.
struct Attempts<C> {
    store: MongoNotifications,
    context: C,
    begun: u32,
    max_conflicts: u32,
    give_up: Instant,
}

/// The transaction had more write conflicts than allowed.
struct TooManyConflicts;

impl<C> Attempts<C> {
    /// Begins another attempt, or fails if there may be no more. Without this, the driver would retry
    /// for two minutes.
    async fn begin(&mut self) -> MongoResult<()> {
        if self.begun > 0 && self.begun.is_multiple_of(ATTEMPTS_PER_CHECK) {
            self.store.end_abandoned_transactions().await;
        }
        if self.begun > self.max_conflicts {
            return Err(Error::custom(TooManyConflicts));
        }
        if self.begun > 0 && Instant::now() > self.give_up {
            return Err(Error::custom(
                "the transaction could not be committed in time",
            ));
        }
        self.begun += 1;
        Ok(())
    }
}

impl MongoNotifications {
    /// Runs `work` in one transaction, and again (after a pause) after each write conflict. `None`
    /// means that it had more than `max_conflicts` conflicts and changed nothing.
    pub(super) async fn transaction<C, T>(
        &self,
        max_conflicts: u32,
        context: C,
        work: Work<C, T>,
    ) -> MongoResult<Option<T>>
    where
        C: Send + Sync,
        T: 'static,
    {
        let give_up = Instant::now() + RETRY_FOR;
        self.transaction_until(give_up, max_conflicts, context, work)
            .await
    }

    /// The same, but it does not start over after `give_up`.
    pub(super) async fn transaction_until<C, T>(
        &self,
        give_up: Instant,
        max_conflicts: u32,
        context: C,
        work: Work<C, T>,
    ) -> MongoResult<Option<T>>
    where
        C: Send + Sync,
        T: 'static,
    {
        let mut session = self.database.client().start_session().await?;
        let attempts = Attempts {
            store: self.clone(),
            context,
            begun: 0,
            max_conflicts,
            give_up,
        };
        let result = session
            .start_transaction()
            .read_concern(ReadConcern::snapshot())
            .and_run(attempts, |session, attempts| {
                async move {
                    attempts.begin().await?;
                    work(&attempts.store, session, &attempts.context).await
                }
                .boxed()
            })
            .await;
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.get_custom::<TooManyConflicts>().is_some() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ends transactions whose process died in the middle: the server would let them lock what they
    /// wrote for a minute. If such a process is alive after all, its transaction starts over, as after
    /// any write conflict.
    async fn end_abandoned_transactions(&self) {
        let ended = async {
            let admin = self.database.client().database("admin");
            let open_for = ABANDONED.as_micros() as i64;
            let idle = [
                doc! {"$currentOp": {"allUsers": false, "idleSessions": true}},
                doc! {"$match": {
                    "appName": APP_NAME,
                    "active": false,
                    "transaction.timeOpenMicros": {"$gt": open_for},
                }},
            ];
            let found = admin.aggregate(idle).read_concern(ReadConcern::local());
            let mut found = found.await?;
            let mut sessions = Vec::new();
            while let Some(operation) = found.try_next().await? {
                let lsid = operation.get_document("lsid").ok();
                let id = lsid.and_then(|lsid| lsid.get("id"));
                sessions.extend(id.map(|id| doc! {"id": id}));
            }
            if !sessions.is_empty() {
                tracing::warn!("ending {} abandoned transactions", sessions.len());
                admin.run_command(doc! {"killSessions": sessions}).await?;
            }
            MongoResult::Ok(())
        };
        if let Err(error) = ended.await {
            // If the server does not allow this, it ends them itself later.
            tracing::warn!(%error, "abandoned transactions could not be ended");
        }
    }
}
