//! What the store ports of all workers share, whatever is stored and wherever: a name, a readiness check,
//! errors, and idempotency keys.

pub mod idempotency;

pub use idempotency::{Idempotency, Once};

use std::time::Duration;

use async_trait::async_trait;
use contract::problem::Problem;
use runtime::error::{BoxError, chain};

/// The common part of every worker's store port.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The name of the store in `/readyz`.
    fn name(&self) -> &'static str;

    /// Whether the store can be used now: it answers, and is prepared if its calls require that.
    async fn ping(&self) -> Result<(), StoreError>;
}

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
