//! How workers keep data in SQLite: one file each, for a platform that runs in one process.
//!
//! One thread writes, and commits what has gathered meanwhile as one transaction: a commit is one
//! flush to the disk, however many wait for it. Readers have connections of their own and never wait
//! for the writer. What a write has answered survives the loss of power (WAL, `synchronous=FULL`).
//!
//! A file belongs to one process; whoever opens it makes sure of that.

pub mod bus;
pub mod outbox;

mod readers;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, Transaction, TransactionBehavior};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use rusqlite;

use self::readers::Readers;
use self::writer::Writer;
use stores::StoreError;

/// No call waits longer.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// One file. Cloning is cheap; the last clone to be dropped ends the writer, after what waits.
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
    /// Opens a file, makes it where it is missing, and brings its schema up to date: each of
    /// `migrations` is applied once, in order, whole or not at all. `user_version` counts them.
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

    /// Runs `job` in a transaction and answers when it is durable. An error of the job takes back
    /// what the job did, and only that. Jobs run one after the other, so what a job has read stays
    /// true until it ends. It must not block: everybody's writes wait for it.
    ///
    /// Unavailable means that nobody knows whether it happened, as with any store.
    pub async fn write<T, F>(&self, operation: &'static str, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.writer.run(operation, job).await
    }

    /// Runs `query` on what is committed, one state of it from the first row to the last. It is
    /// interrupted at [`DEADLINE`].
    pub async fn read<T, F>(&self, operation: &'static str, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.readers.run(operation, query).await
    }

    /// Whether it takes writes. Only where the last one failed is that tried: a process with nothing
    /// to do leaves the disk alone.
    pub async fn ping(&self) -> Result<(), StoreError> {
        if !self.writer.failed() {
            return Ok(());
        }
        self.write("ping", |connection| {
            // The same value: a page is written, and nothing changes.
            let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            connection.pragma_update(None, "user_version", version)
        })
        .await
    }
}

fn connect(path: &Path, more: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | more;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(DEADLINE)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}

/// Gives the number of migrations that the file has seen, unknown ones included.
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

/// Corrupt where asking again cannot help: what is stored cannot be read, or it breaks a constraint
/// (jobs look before they write, so that is a bug).
fn store_error(operation: &'static str, error: rusqlite::Error) -> StoreError {
    use rusqlite::Error;
    let is_final = match &error {
        Error::SqliteFailure(failure, _) => matches!(
            failure.code,
            ErrorCode::ConstraintViolation
                | ErrorCode::TooBig
                | ErrorCode::TypeMismatch
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
        ),
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..)
        | Error::ToSqlConversionFailure(..)
        | Error::Utf8Error(..) => true,
        _ => false,
    };
    if is_final {
        StoreError::corrupt(operation, error)
    } else {
        StoreError::unavailable(operation, error)
    }
}

/// What a column of times holds.
pub fn millis(time: Timestamp) -> i64 {
    time.as_millisecond()
}

/// The time in a column.
pub fn time(row: &Row<'_>, column: &str) -> rusqlite::Result<Timestamp> {
    Timestamp::from_millisecond(row.get(column)?).map_err(unreadable)
}

/// The text in a column, read as something that not every text is.
pub fn parsed<T>(
    row: &Row<'_>,
    column: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> rusqlite::Result<T> {
    parse(row.get_ref(column)?.as_str()?)
        .ok_or_else(|| unreadable(format!("`{column}` holds something else")))
}

/// The JSON in a column.
pub fn json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    serde_json::from_str(row.get_ref(column)?.as_str()?).map_err(unreadable)
}

/// What a column of JSON holds.
pub fn to_json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(unreadable)
}

/// An error of a job or query for data that cannot be what it should be.
pub fn unreadable(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(why.into())
}
