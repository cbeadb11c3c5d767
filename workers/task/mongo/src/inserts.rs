//! Group commit: tasks that are created at the same time are inserted by one command.
//!
//! Sending a command and waiting for a majority costs the server and this process more than the insert
//! itself. So one command is in flight at a time, and the inserts that arrive meanwhile share the next
//! one. An insert that arrives alone does not wait; under load each command carries more. Databases write
//! their logs the same way.
//!
//! An insert that nobody waits for any more must not be sent. The store calls [`Inserts::insert`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bson::Document;
use mongo::{DEADLINE, DUPLICATE_KEY, failed, run};
use mongodb::Collection;
use mongodb::error::{Error, ErrorKind, Result as MongoResult};
use stores::StoreError;
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

const OPERATION: &str = "insert task";
/// The most documents of one command.
const MAX_BATCH: usize = 256;
/// The shortest time between the starts of two commands if the first one carried several documents:
/// then more are on their way.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// A document that waits for the next command.
struct QueuedInsert {
    document: Document,
    /// Reports whether the document was new.
    inserted: oneshot::Sender<MongoResult<bool>>,
}

#[derive(Clone)]
pub(super) struct Inserts {
    tasks: Collection<Document>,
    queue: Arc<Mutex<Vec<QueuedInsert>>>,
    /// Whoever locks it sends the next command for everybody who waits. It holds the earliest time of
    /// that command.
    next_command: Arc<AsyncMutex<Instant>>,
}

impl Inserts {
    pub(super) fn new(tasks: &Collection<Document>) -> Self {
        Self {
            tasks: tasks.clone(),
            queue: Arc::default(),
            next_command: Arc::new(AsyncMutex::new(Instant::now())),
        }
    }

    /// Inserts a document. False if a unique index holds its key already. A document is not sent if no
    /// command takes it within the deadline, or if nobody waits for it any more.
    pub(super) async fn insert(&self, document: Document) -> Result<bool, StoreError> {
        let end = Instant::now() + DEADLINE;
        let (sender, mut inserted) = oneshot::channel();
        self.queue().push(QueuedInsert {
            document,
            inserted: sender,
        });
        let outcome = async {
            loop {
                tokio::select! {
                    biased;
                    outcome = &mut inserted => return Ok(outcome),
                    mut next_command = self.next_command.lock() => {
                        sleep_until(*next_command).await;
                        let (this, began) = (self.clone(), Instant::now());
                        let sent = run(OPERATION, async move { Ok(this.send_batch().await) }).await?;
                        if sent > 1 {
                            *next_command = began + MIN_INTERVAL;
                        }
                        // A caller whose deadline passes gives up the lock too, while its command goes on. So a
                        // command that hangs delays the others by one deadline at most.
                        drop(next_command);
                        if sent == 0 {
                            // Our document went with the command of a caller who has gone away since.
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

    /// Inserts up to [`MAX_BATCH`] queued documents with one command, and reports to each caller what
    /// happened to its document. Returns how many documents were sent.
    async fn send_batch(&self) -> usize {
        let batch: Vec<QueuedInsert> = {
            let mut queue = self.queue();
            queue.retain(|insert| !insert.inserted.is_closed());
            let count = queue.len().min(MAX_BATCH);
            queue.drain(..count).collect()
        };
        let sent = batch.len();
        if sent == 0 {
            return 0;
        }
        let documents = batch.iter().map(|insert| &insert.document);
        let result = self.tasks.insert_many(documents).ordered(false).await;
        let error = result.as_ref().err();
        for (index, insert) in batch.into_iter().enumerate() {
            // A caller that has gone away has reported to its client that the outcome is unknown.
            insert.inserted.send(outcome_of(index, error)).ok();
        }
        sent
    }

    fn queue(&self) -> MutexGuard<'_, Vec<QueuedInsert>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The outcome of one document of a batch; `error` is the command's, if it failed.
fn outcome_of(index: usize, error: Option<&Error>) -> MongoResult<bool> {
    let Some(error) = error else {
        return Ok(true);
    };
    let ErrorKind::InsertMany(failed) = &*error.kind else {
        return Err(error.clone());
    };
    let of_this = failed.write_errors.iter().flatten();
    match of_this.into_iter().find(|failure| failure.index == index) {
        Some(duplicate) if duplicate.code == DUPLICATE_KEY => Ok(false),
        Some(_) => Err(error.clone()),
        None => match &failed.write_concern_error {
            // Not `error` itself, which may be about another caller's document.
            Some(why) => Err(Error::custom(format!(
                "not confirmed by a majority: {why:?}"
            ))),
            None => Ok(true),
        },
    }
}
