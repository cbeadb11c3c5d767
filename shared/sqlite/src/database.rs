//! One file, with its writer and its readers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use stores::StoreError;

use super::connection::connect;
use super::readers::Readers;
use super::writer::Writer;

/// One file. Cloning is cheap; dropping the last clone waits for the queued jobs and ends the writer.
#[derive(Clone)]
pub struct Database {
    writer: Arc<Writer>,
    readers: Arc<Readers>,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "{path} was written by a newer version of Sluice (its schema is {found}, this version knows {known}); start that version, or use another folder"
    )]
    Newer {
        path: PathBuf,
        found: usize,
        known: usize,
    },
    #[error("{path} cannot be opened")]
    Unusable {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
}

impl Database {
    /// Opens a file, or makes it if it is missing, and brings its schema up to date: each of `migrations` is
    /// applied once, in order, completely or not at all. `user_version` counts them.
    pub fn open(path: &Path, migrations: &[&str]) -> Result<Self, OpenError> {
        let unusable = |source| OpenError::Unusable {
            path: path.to_owned(),
            source,
        };
        let mut connection = connect(path, OpenFlags::SQLITE_OPEN_CREATE).map_err(unusable)?;
        let found = migrate(&mut connection, migrations).map_err(unusable)?;
        if found > migrations.len() {
            return Err(OpenError::Newer {
                path: path.to_owned(),
                found,
                known: migrations.len(),
            });
        }
        Ok(Self {
            readers: Arc::new(Readers::open(path).map_err(unusable)?),
            writer: Arc::new(Writer::start(connection)),
        })
    }

    /// Runs `job` in a transaction and returns when it is durable. If the job fails, its own changes are
    /// rolled back and nothing else. Jobs run one after the other, so what a job has read stays true
    /// until it ends. A job must not block, because every other write waits for it.
    ///
    /// `Unavailable` means that the write may or may not have happened, as with any store.
    pub async fn write<T, F>(&self, operation: &'static str, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.writer.run(operation, job).await
    }

    /// Runs `query` on one committed state of the file. It is interrupted at [`DEADLINE`].
    pub async fn read<T, F>(&self, operation: &'static str, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.readers.run(operation, query).await
    }

    /// Whether the file accepts writes. That is tried only if the last write failed, so an idle process
    /// does not touch the disk.
    pub async fn ping(&self) -> Result<(), StoreError> {
        if !self.writer.failed() {
            return Ok(());
        }
        self.write("ping", |connection| {
            // Writing the same value writes a page and changes nothing.
            let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            connection.pragma_update(None, "user_version", version)
        })
        .await
    }
}

/// Returns the number of migrations that the file has seen, unknown ones included.
fn migrate(connection: &mut Connection, migrations: &[&str]) -> rusqlite::Result<usize> {
    let found: usize = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    for (version, migration) in (1..).zip(migrations).skip(found) {
        let change = Transaction::new(connection, TransactionBehavior::Immediate)?;
        change.execute_batch(migration)?;
        change.pragma_update(None, "user_version", version)?;
        change.commit()?;
    }
    Ok(found)
}
