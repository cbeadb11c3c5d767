//! The check for ended sessions, as the verifier needs it.

use super::error::AuthError;
use super::identity::Identity;

/// Knows which sessions have ended. Called for every request, so it must not wait.
pub trait RevocationCheck: Send + Sync {
    /// Refuses an identity whose session has ended or may have ended.
    fn check(&self, identity: &Identity) -> Result<(), AuthError>;
}

/// Accepts every session.
pub(super) struct NeverRevoked;

impl RevocationCheck for NeverRevoked {
    fn check(&self, _: &Identity) -> Result<(), AuthError> {
        Ok(())
    }
}
