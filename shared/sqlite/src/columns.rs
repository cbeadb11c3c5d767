//! How values are written to columns and read back.

use jiff::Timestamp;
use rusqlite::Row;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A time as a column holds it.
pub fn millis(time: Timestamp) -> i64 {
    time.as_millisecond()
}

/// The time in a column.
pub fn time(row: &Row<'_>, column: &str) -> rusqlite::Result<Timestamp> {
    Timestamp::from_millisecond(row.get(column)?).map_err(unreadable)
}

/// The text in a column, parsed. Text that `parse` refuses is an error.
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

/// A value as a column of JSON holds it.
pub fn to_json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(unreadable)
}

/// The error for a job or query that finds unreadable data.
pub fn unreadable(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(why.into())
}
