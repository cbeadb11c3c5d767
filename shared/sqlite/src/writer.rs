//! The one thread that writes. It takes the jobs that wait, runs them, commits once, and then answers
//! their callers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use runtime::error::chain;
use rusqlite::Connection;
use stores::StoreError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::connection::{DEADLINE, store_error};

/// The most jobs in the queue; beyond it callers wait.
const MAX_QUEUED: usize = 1_024;
/// Jobs in one commit: a few milliseconds of work at most.
const BATCH: usize = 256;

/// Runs inside the transaction of the batch. The closure that it returns answers the caller once the
/// outcome of the commit is known.
type Job = Box<dyn FnOnce(&Connection) -> Answer + Send>;
/// Answers the caller: `None` means that the batch was committed, otherwise why it was not.
type Answer = Box<dyn FnOnce(Option<String>) + Send>;

pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Whether the last commit failed.
    failed: Arc<AtomicBool>,
}

impl Writer {
    pub(super) fn start(connection: Connection) -> Self {
        let (jobs, queue) = mpsc::channel(MAX_QUEUED);
        let failed = Arc::new(AtomicBool::new(false));
        let last_failed = failed.clone();
        Self {
            jobs: Some(jobs),
            thread: Some(std::thread::spawn(move || {
                write(&connection, queue, &last_failed)
            })),
            failed,
        }
    }

    pub(super) fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    pub(super) async fn run<T, F>(&self, operation: &'static str, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let end = Instant::now() + DEADLINE;
        let (sender, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let result = in_savepoint(connection, job);
            // Sending fails if the caller has gone, and then nobody needs the answer.
            Box::new(move |failed| drop(sender.send((result, failed))))
        });
        let Some(jobs) = &self.jobs else {
            return Err(StoreError::unavailable(operation, "the writer has ended"));
        };
        timeout_at(end, jobs.send(job))
            .await
            .map_err(|late| StoreError::unavailable(operation, late))?
            .map_err(|_| StoreError::unavailable(operation, "the writer has ended"))?;
        let (result, failed) = timeout_at(end, answer)
            .await
            .map_err(|late| StoreError::unavailable(operation, late))?
            .map_err(|_| StoreError::unavailable(operation, "the writer has ended"))?;
        match (result, failed) {
            (Ok(value), None) => Ok(value),
            (Ok(_), Some(why)) => Err(StoreError::unavailable(operation, why)),
            (Err(Failed::Sqlite(error)), _) => Err(store_error(operation, error)),
            (Err(Failed::Panicked), _) => Err(StoreError::corrupt(operation, "the job panicked")),
        }
    }
}

/// Waits for the queued jobs, so every accepted job runs.
impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // Jobs that panic are caught, so the thread itself does not.
            drop(thread.join());
        }
    }
}

enum Failed {
    Sqlite(rusqlite::Error),
    Panicked,
}

/// Runs a job in a savepoint, so that its failure rolls back its own changes and nothing else.
fn in_savepoint<T>(
    connection: &Connection,
    job: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T, Failed> {
    let statement = |sql| {
        connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute([]))
            .map_err(Failed::Sqlite)
    };
    statement("SAVEPOINT job")?;
    let result = catch_unwind(AssertUnwindSafe(|| job(connection)))
        .map_err(|_| Failed::Panicked)
        .and_then(|result| result.map_err(Failed::Sqlite));
    // A full disk may have ended the whole transaction. Then the commit fails for all jobs.
    if result.is_err() && !connection.is_autocommit() {
        statement("ROLLBACK TO job")?;
    }
    if !connection.is_autocommit() {
        statement("RELEASE job")?;
    }
    result
}

fn write(connection: &Connection, mut queue: mpsc::Receiver<Job>, last_failed: &AtomicBool) {
    let mut batch = Vec::with_capacity(BATCH);
    while queue.blocking_recv_many(&mut batch, BATCH) > 0 {
        let mut answers = Vec::with_capacity(batch.len());
        let failed = match commit(connection, &mut batch, &mut answers) {
            Ok(()) => None,
            Err(error) => {
                tracing::warn!(error = chain(&error), "SQLite did not commit");
                if !connection.is_autocommit()
                    && let Err(error) = connection.execute_batch("ROLLBACK")
                {
                    tracing::error!(error = chain(&error), "SQLite did not roll back");
                }
                Some(error.to_string())
            }
        };
        last_failed.store(failed.is_some(), Ordering::Relaxed);
        // Dropping a job that did not run tells its caller that the writer has ended.
        batch.clear();
        for answer in answers {
            answer(failed.clone());
        }
    }
}

fn commit(
    connection: &Connection,
    batch: &mut Vec<Job>,
    answers: &mut Vec<Answer>,
) -> rusqlite::Result<()> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    for job in batch.drain(..) {
        answers.push(job(connection));
    }
    if connection.is_autocommit() {
        let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
        return Err(rusqlite::Error::SqliteFailure(full, None));
    }
    connection.prepare_cached("COMMIT")?.execute([])?;
    Ok(())
}
