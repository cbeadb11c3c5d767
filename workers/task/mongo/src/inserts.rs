//! Group commit: tasks that are created at the same time are one command.
//!
//! A command, and the wait until a majority has what it wrote, costs the server and us more than the
//! insert itself. So one is under way at a time, and what comes meanwhile goes together with the next:
//! alone, nobody waits; under load each command carries more. Databases write their logs so.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bson::Document;
use mongo::{DEADLINE, DUPLICATE_KEY, failed, run};
use mongodb::Collection;
use mongodb::error::{Error, ErrorKind, Result as MongoResult};
use stores::StoreError;
use tokio::sync::{Mutex as Turn, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

const OPERATION: &str = "insert task";
/// Documents of one command.
const BATCH: usize = 256;
/// Between the beginnings of two commands, where the first carried several: then more are coming.
const PACE: Duration = Duration::from_millis(10);

/// A document, and who waits to hear whether it is new.
struct Waiting {
    document: Document,
    inserted: oneshot::Sender<MongoResult<bool>>,
}

#[derive(Clone)]
pub(super) struct Inserts {
    tasks: Collection<Document>,
    waiting: Arc<Mutex<Vec<Waiting>>>,
    /// Whoever has it writes for all who wait, not before the time that it holds.
    turn: Arc<Turn<Instant>>,
}

impl Inserts {
    pub(super) fn new(tasks: &Collection<Document>) -> Self {
        Self {
            tasks: tasks.clone(),
            waiting: Arc::default(),
            turn: Arc::new(Turn::new(Instant::now())),
        }
    }

    /// False where a unique index holds the document's key already. One that waits in vain for its turn,
    /// or that nobody waits for any more, is not sent.
    pub(super) async fn insert(&self, document: Document) -> Result<bool, StoreError> {
        let end = Instant::now() + DEADLINE;
        let (sender, mut inserted) = oneshot::channel();
        self.waiting().push(Waiting {
            document,
            inserted: sender,
        });
        let outcome = async {
            loop {
                tokio::select! {
                    biased;
                    outcome = &mut inserted => return Ok(outcome),
                    mut turn = self.turn.lock() => {
                        sleep_until(*turn).await;
                        let (this, began) = (self.clone(), Instant::now());
                        let taken = run(OPERATION, async move { Ok(this.write().await) }).await?;
                        if taken > 1 {
                            *turn = began + PACE;
                        }
                        // It ends with the wait, not with the command: one that hangs holds up nobody for longer.
                        drop(turn);
                        if taken == 0 {
                            // Ours went with the command of somebody who has hung up since.
                            return Ok((&mut inserted).await);
                        }
                    }
                }
            }
        };
        match timeout_at(end, outcome).await {
            Ok(Ok(Ok(outcome))) => outcome.map_err(|error| failed(OPERATION, error)),
            Ok(Ok(Err(gone))) => Err(StoreError::unavailable(OPERATION, gone)),
            Ok(Err(error)) => Err(error),
            Err(late) => Err(StoreError::unavailable(OPERATION, late)),
        }
    }

    /// Inserts what waits, at most [`BATCH`], and tells everybody what became of theirs. Returns how many.
    async fn write(&self) -> usize {
        let batch: Vec<Waiting> = {
            let mut waiting = self.waiting();
            waiting.retain(|one| !one.inserted.is_closed());
            let count = waiting.len().min(BATCH);
            waiting.drain(..count).collect()
        };
        let taken = batch.len();
        if taken == 0 {
            return 0;
        }
        let documents = batch.iter().map(|one| &one.document);
        let result = self.tasks.insert_many(documents).ordered(false).await;
        let error = result.as_ref().err();
        for (index, one) in batch.into_iter().enumerate() {
            // Whoever does not wait any more has told the client that nobody knows.
            one.inserted.send(outcome_of(index, error)).ok();
        }
        taken
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of one document of a batch that ended in `error`, or without.
fn outcome_of(index: usize, error: Option<&Error>) -> MongoResult<bool> {
    let Some(error) = error else {
        return Ok(true);
    };
    let ErrorKind::InsertMany(failed) = &*error.kind else {
        return Err(error.clone());
    };
    let of_this = failed.write_errors.iter().flatten();
    match of_this.into_iter().find(|one| one.index == index) {
        Some(duplicate) if duplicate.code == DUPLICATE_KEY => Ok(false),
        Some(_) => Err(error.clone()),
        None => match &failed.write_concern_error {
            // Not `error` itself, which may tell of somebody else's document.
            Some(why) => Err(Error::custom(format!(
                "not confirmed by a majority: {why:?}"
            ))),
            None => Ok(true),
        },
    }
}
