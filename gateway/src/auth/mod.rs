//! Authentication: from the bearer token of a request to an [`Identity`].
//!
//! Only [`Verifier`] creates identities. Tokens that were verified before are in a bounded cache; their
//! expiry, key and revocation are checked again on every hit. Any other token is parsed, then checked
//! against the issuer's rules. Its signature is checked last, with the one algorithm for which the key
//! was configured or published: the token's header never chooses it. Key sets are loaded in the
//! background ([`Verifier::run`]). An unknown `kid` makes the key set be fetched once more.
//!
//! Admission calls `verify`; the limiter and the headers for the workers come next. Nothing here may
//! log a token, keep a refused token, or trust a claim before the signature was checked.

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
