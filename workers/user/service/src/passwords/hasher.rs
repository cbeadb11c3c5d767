//! The port to the hashing algorithm, and the cost of hashes. `Passwords` alone calls a [`Hasher`].

use std::time::Duration;

use runtime::error::BoxError;

use crate::domain::{Password, PasswordHash};

/// The cost of a hash, and how many may run and wait.
#[derive(Debug, Clone)]
pub struct Hashing {
    pub memory_kib: u32,
    pub iterations: u32,
    /// How many hashes run at once.
    pub permits: usize,
    /// How many more hashes may wait.
    pub queue: usize,
    /// How long a hash may wait.
    pub deadline: Duration,
}

impl Default for Hashing {
    /// OWASP's minimum for Argon2id with one lane, on all cores except one.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            memory_kib: 19 * 1024,
            iterations: 2,
            permits: cores.saturating_sub(1).max(1),
            queue: 64,
            deadline: Duration::from_secs(1),
        }
    }
}

impl Hashing {
    /// For tests: cheap hashes, and a queue that does not fill up.
    pub fn cheap() -> Self {
        Self {
            memory_kib: 8,
            iterations: 1,
            queue: 1_000,
            deadline: Duration::from_secs(30),
            ..Self::default()
        }
    }
}

/// A hashing algorithm. `hash` and `verify` block the thread for as long as a hash takes.
pub trait Hasher: Send + Sync + 'static {
    fn hash(&self, password: &Password) -> Result<PasswordHash, BoxError>;

    /// Whether the password has this hash.
    fn verify(&self, password: &Password, hash: &PasswordHash) -> Result<bool, BoxError>;

    /// Whether this hash is weaker than a new one.
    fn needs_rehash(&self, hash: &PasswordHash) -> bool;

    /// A hash that no password has, and that costs as much to verify as a new one.
    fn nobodys_hash(&self) -> PasswordHash;
}
