//! Whether a session has ended, as the verifier asks it.

use super::error::AuthError;
use super::identity::Identity;

/// Knows which sessions have ended. Asked on every request, so it may not wait.
pub trait RevocationCheck: Send + Sync {
    /// Refuses an identity whose session has ended, or of which that cannot be told.
    fn check(&self, identity: &Identity) -> Result<(), AuthError>;
}

/// Nothing is ever revoked.
pub(super) struct NeverRevoked;

impl RevocationCheck for NeverRevoked {
    fn check(&self, _: &Identity) -> Result<(), AuthError> {
        Ok(())
    }
}
