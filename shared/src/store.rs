//! What every store can answer besides its data.

use crate::problem::Problem;
use std::time::Duration;

/// The cause under an adapter's error, of whatever driver.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached or did not answer in time. A write may or may not have happened.
    #[error("store unavailable during {operation}")]
    Unavailable {
        operation: &'static str,
        #[source]
        source: BoxError,
    },
    /// The store answered something this version cannot read: a bug or a foreign document.
    #[error("unreadable data during {operation}")]
    Corrupt {
        operation: &'static str,
        #[source]
        source: BoxError,
    },
}

impl StoreError {
    pub fn unavailable(operation: &'static str, source: impl Into<BoxError>) -> Self {
        Self::Unavailable {
            operation,
            source: source.into(),
        }
    }

    pub fn corrupt(operation: &'static str, source: impl Into<BoxError>) -> Self {
        Self::Corrupt {
            operation,
            source: source.into(),
        }
    }
}

/// Writes an error with its causes, as a log line wants it.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// Logs the cause, once, and hides it from the client.
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { .. } => {
                tracing::warn!(error = chain(&error), "the store did not answer");
                Problem::unavailable(
                    "The data store cannot be reached at the moment. Try again later.",
                    Duration::from_secs(1),
                )
            }
            StoreError::Corrupt { .. } => {
                tracing::error!(
                    error = chain(&error),
                    "the store holds something unreadable"
                );
                Problem::internal()
            }
        }
    }
}
