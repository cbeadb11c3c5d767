//! Transactions that start over when they collide, for as long as their caller waits.

use std::time::{Duration, Instant};

use bson::doc;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryStreamExt};
use mongo::APP_NAME;
use mongodb::ClientSession;
use mongodb::error::{Error, Result as MongoResult};
use mongodb::options::ReadConcern;

use super::MongoNotifications;

/// No transaction starts over later than this: its caller is about to give up.
pub(super) const RETRY_FOR: Duration = Duration::from_secs(4);

/// How many attempts may fail before it is asked whether somebody died.
const ATTEMPTS_PER_LOOK: u32 = 4;
/// A transaction of ours that is open for longer, and not at work, has lost its process.
const ABANDONED: Duration = Duration::from_secs(3);

/// What a transaction does: repeatable, and with no effect but through its session.
pub(super) type Work<C, T> = for<'a> fn(
    &'a MongoNotifications,
    &'a mut ClientSession,
    &'a C,
) -> BoxFuture<'a, MongoResult<T>>;

/// One transaction through all its attempts.
struct Run<C> {
    store: MongoNotifications,
    context: C,
    attempts: u32,
    max_collisions: u32,
    give_up: Instant,
}

/// It collided as often as it may.
struct Collided;

impl<C> Run<C> {
    /// Ends the driver's own retries, which last two minutes.
    async fn may_go_on(&mut self) -> MongoResult<()> {
        if self.attempts > 0 && self.attempts.is_multiple_of(ATTEMPTS_PER_LOOK) {
            self.store.end_abandoned().await;
        }
        if self.attempts > self.max_collisions {
            return Err(Error::custom(Collided));
        }
        if self.attempts > 0 && Instant::now() > self.give_up {
            return Err(Error::custom(
                "the transaction could not be committed in time",
            ));
        }
        self.attempts += 1;
        Ok(())
    }
}

impl MongoNotifications {
    /// Runs `work` in one transaction, again (after a pause) when it collides with another. `None`
    /// means that it collided more than `max_collisions` times and changed nothing.
    pub(super) async fn transaction<C, T>(
        &self,
        max_collisions: u32,
        context: C,
        work: Work<C, T>,
    ) -> MongoResult<Option<T>>
    where
        C: Send + Sync,
        T: 'static,
    {
        let give_up = Instant::now() + RETRY_FOR;
        self.transaction_until(give_up, max_collisions, context, work)
            .await
    }

    /// The same, and starts over no later than `give_up`.
    pub(super) async fn transaction_until<C, T>(
        &self,
        give_up: Instant,
        max_collisions: u32,
        context: C,
        work: Work<C, T>,
    ) -> MongoResult<Option<T>>
    where
        C: Send + Sync,
        T: 'static,
    {
        let mut session = self.database.client().start_session().await?;
        let run = Run {
            store: self.clone(),
            context,
            attempts: 0,
            max_collisions,
            give_up,
        };
        let result = session
            .start_transaction()
            .read_concern(ReadConcern::snapshot())
            .and_run(run, |session, run| {
                async move {
                    run.may_go_on().await?;
                    work(&run.store, session, &run.context).await
                }
                .boxed()
            })
            .await;
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.get_custom::<Collided>().is_some() => Ok(None),
            Err(error) => Err(error),
        }
    }
    /// Ends transactions whose process died in the middle: the server would let them block what they
    /// wrote for a minute. One that only seemed dead starts over, like after any collision.
    async fn end_abandoned(&self) {
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
                tracing::warn!("ending {} transactions that were abandoned", sessions.len());
                admin.run_command(doc! {"killSessions": sessions}).await?;
            }
            MongoResult::Ok(())
        };
        if let Err(error) = ended.await {
            // Where this is not allowed, the server ends them by itself, later.
            tracing::warn!(%error, "abandoned transactions could not be ended");
        }
    }
}
