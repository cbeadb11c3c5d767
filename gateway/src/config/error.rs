//! What is wrong with a configuration file, and where: `file:line:column: path.to.key: message`.

use std::fmt;
use std::path::{Path, PathBuf};

/// A position in the file, both parts counted from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

impl Place {
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

/// One error: its place, the path of the key (`services.users.upstreams[0]`, empty for the whole
/// file), and what is wrong and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    pub place: Place,
    pub path: String,
    pub message: String,
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
        let error = ConfigError {
            place: Place::START,
            path: String::new(),
            message: format!("the file cannot be read: {why}"),
        };
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
