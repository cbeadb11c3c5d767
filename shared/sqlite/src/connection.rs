//! One connection to a file, and what its errors mean.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use stores::StoreError;

/// The deadline of every call.
pub const DEADLINE: Duration = Duration::from_secs(5);

pub(crate) fn connect(path: &Path, more: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | more;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(DEADLINE)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}

/// `Corrupt` if a retry cannot help: the stored data cannot be read, or a constraint is violated (which is
/// a bug, because jobs look before they write).
pub(crate) fn store_error(operation: &'static str, error: rusqlite::Error) -> StoreError {
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
