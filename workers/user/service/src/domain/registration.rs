//! What is kept of a registration, so that a client which did not hear its answer can ask again.

use std::fmt;

use aws_lc_rs::digest;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::email::Email;
use super::name::Name;

/// The client's `Idempotency-Key` and what it said, both hashed. The password is not in it: that is
/// compared with the account's.
#[derive(Clone, PartialEq, Eq)]
pub struct Registration {
    pub key: String,
    pub said: String,
}

impl Registration {
    /// `key` is a hash already.
    pub fn new(key: String, email: &Email, name: &Name) -> Self {
        // Neither can hold a line break.
        let said = format!("{}\n{}", email.as_str(), name.as_str());
        let said = digest::digest(&digest::SHA256, said.as_bytes());
        Self {
            key,
            said: BASE64_URL_SAFE_NO_PAD.encode(said),
        }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registration(…)")
    }
}
