//! The store: one file, used by this process only. The other modules add its operations.

use std::path::Path;

use sqlite::{Database, OpenError};

const MIGRATIONS: [&str; 1] = [include_str!("schema.sql")];

/// Notifications in one SQLite file.
pub struct SqliteNotifications {
    pub(super) database: Database,
}

impl SqliteNotifications {
    /// Opens the file, and creates it if it is missing. No other process may use it.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Ok(Self {
            database: Database::open(path, &MIGRATIONS)?,
        })
    }
}
