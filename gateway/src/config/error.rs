//! The errors of a configuration file, printed as `file:line:column: path.to.key: message`.

use std::fmt;
use std::path::{Path, PathBuf};

/// A position in the file; lines and columns count from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

impl Place {
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

/// One error of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    pub place: Place,
    /// Of the key, `services.users.upstreams[0]`; empty for an error of the whole file.
    pub path: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl ConfigError {
    pub(super) fn new(place: Place, path: String, message: impl Into<String>) -> Self {
        Self {
            place,
            path,
            message: message.into(),
        }
    }
}

/// Every error of one file, in the order of their places.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    file: PathBuf,
    errors: Vec<ConfigError>,
}

impl ConfigErrors {
    pub(super) fn new(file: &Path, mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by_key(|error| error.place);
        Self {
            file: file.to_owned(),
            errors,
        }
    }

    pub(super) fn unreadable(file: &Path, why: &std::io::Error) -> Self {
        let message = format!("the file cannot be read: {why}");
        let error = ConfigError::new(Place::START, String::new(), message);
        Self::new(file, vec![error])
    }

    /// The errors, in the order of their places.
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            let file = self.file.display();
            let Place { line, column } = error.place;
            write!(f, "{separator}{file}:{line}:{column}: ")?;
            if !error.path.is_empty() {
                write!(f, "{}: ", error.path)?;
            }
            f.write_str(&error.message)?;
        }
        Ok(())
    }
}
