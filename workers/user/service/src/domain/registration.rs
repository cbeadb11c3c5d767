//! What an account keeps of its registration, so that a client that missed the answer can send it
//! again.

use std::fmt;

use aws_lc_rs::digest;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::email::Email;
use super::name::Name;

/// Hashes of the client's `Idempotency-Key` and of its e-mail address and name. The password is not
/// included: it is checked against the account's own hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Registration {
    pub key: String,
    /// The hash of address and name.
    pub fingerprint: String,
}

impl Registration {
    /// `key` must already be hashed.
    pub fn new(key: String, email: &Email, name: &Name) -> Self {
        // Neither can contain a line break, so this is unambiguous.
        let fingerprint = format!("{}\n{}", email.as_str(), name.as_str());
        let fingerprint = digest::digest(&digest::SHA256, fingerprint.as_bytes());
        Self {
            key,
            fingerprint: BASE64_URL_SAFE_NO_PAD.encode(fingerprint),
        }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registration(…)")
    }
}
