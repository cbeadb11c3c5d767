//! Who is calling: from the bearer token of a request to an [`Identity`].
//!
//! [`Verifier`] is the only maker of identities. A token that was verified before is found in a
//! bounded cache, where its expiry, its key and its revocation are checked again on every hit. Any
//! other token is read, held against the issuer's rules, and its signature is checked last, with
//! the one algorithm that the key was configured or published for: the token's header never chooses.
//! Key sets are loaded in the background ([`Verifier::run`]); an unknown `kid` fetches once more.
//!
//! Admission calls `verify`; the limiter and the headers towards the workers come next. Nothing here
//! may log a token, keep a refused one, or trust a claim before the signature has been checked.

mod cache;
mod claims;
mod error;
mod guard;
mod identity;
mod keys;
mod revocation;
mod revocation_check;
mod verifier;

#[cfg(test)]
mod tests;

pub use error::{AuthError, AuthSetupError, Reason};
pub use identity::Identity;
pub use keys::{FetchJwks, HttpJwks, KeyInfo, KeySetError};
pub use revocation::{FeedStatus, Revocations};
pub use revocation_check::RevocationCheck;
pub use verifier::Verifier;
