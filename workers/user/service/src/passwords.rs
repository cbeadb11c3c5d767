//! Hashes and verifies passwords, a bounded number at a time.
//!
//! Each hash costs [`Hashing::memory_kib`] and tens of milliseconds of a core. At most
//! [`Hashing::permits`] run at once, at most [`Hashing::queue`] wait, and none waits longer than
//! [`Hashing::deadline`], so a flood of logins slows only logins. An unknown user costs as much as
//! a known one. Handlers call [`Passwords`]; nothing else may hash.

mod argon;
mod hasher;

pub use argon::Argon2Hasher;
pub use hasher::{Hasher, Hashing};

use std::sync::Arc;
use std::time::Duration;

use contract::problem::Problem;
use runtime::error::{BoxError, chain};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::domain::{Password, PasswordHash};

/// The result of verifying a password.
#[derive(Debug, PartialEq, Eq)]
pub enum Verification {
    Wrong,
    Correct {
        /// A new hash to store, if the parameters of the old one are too weak by now.
        rehashed: Option<PasswordHash>,
    },
}

/// Why a password was neither hashed nor verified.
#[derive(Debug, thiserror::Error)]
pub enum HashingError {
    #[error("too many passwords are being checked")]
    Busy,
    #[error("the password could not be hashed")]
    Failed(#[source] BoxError),
}

impl From<HashingError> for Problem {
    fn from(error: HashingError) -> Self {
        match error {
            HashingError::Busy => Problem::unavailable(
                "Too many people are logging in at this moment. Try again in a second.",
                Duration::from_secs(1),
            ),
            HashingError::Failed(_) => {
                tracing::error!(error = chain(&error), "could not hash a password");
                Problem::internal()
            }
        }
    }
}

/// A hasher with bounded concurrency.
pub struct Passwords {
    hasher: Arc<dyn Hasher>,
    /// A permit for each hash that runs or waits.
    admitted: Arc<Semaphore>,
    /// A permit for each hash that runs.
    running: Arc<Semaphore>,
    deadline: Duration,
}

impl Passwords {
    pub fn new(hasher: impl Hasher, hashing: &Hashing) -> Self {
        Self {
            hasher: Arc::new(hasher),
            admitted: Arc::new(Semaphore::new(hashing.permits + hashing.queue)),
            running: Arc::new(Semaphore::new(hashing.permits)),
            deadline: hashing.deadline,
        }
    }

    /// Hashes a new password.
    pub async fn hash(&self, password: Password) -> Result<PasswordHash, HashingError> {
        self.bounded(move |hasher| hasher.hash(&password)).await
    }

    /// Verifies an attempt against a user's hash. `None` stands for an unknown user: it takes as
    /// long and is always wrong.
    pub async fn verify(
        &self,
        attempt: Password,
        hash: Option<PasswordHash>,
    ) -> Result<Verification, HashingError> {
        self.bounded(move |hasher| {
            let known = hash.is_some();
            let hash = hash.unwrap_or_else(|| hasher.nobodys_hash());
            if !(hasher.verify(&attempt, &hash)? && known) {
                return Ok(Verification::Wrong);
            }
            let rehashed = match hasher.needs_rehash(&hash) {
                true => Some(hasher.hash(&attempt)?),
                false => None,
            };
            Ok(Verification::Correct { rehashed })
        })
        .await
    }

    async fn bounded<T: Send + 'static>(
        &self,
        job: impl FnOnce(&dyn Hasher) -> Result<T, BoxError> + Send + 'static,
    ) -> Result<T, HashingError> {
        let admitted = self.admitted.clone().try_acquire_owned();
        let admitted = admitted.map_err(|_| HashingError::Busy)?;
        let running = timeout(self.deadline, self.running.clone().acquire_owned())
            .await
            .map_err(|_| HashingError::Busy)?
            .map_err(|closed| HashingError::Failed(closed.into()))?;
        let hasher = self.hasher.clone();
        // Invariant: the job owns its permits, because it keeps running when its request is
        // dropped.
        let job = spawn_blocking(move || {
            let result = job(hasher.as_ref());
            drop((running, admitted));
            result
        });
        let result = job
            .await
            .map_err(|panic| HashingError::Failed(panic.into()))?;
        result.map_err(HashingError::Failed)
    }
}

#[cfg(test)]
mod tests;
