//! Refuses every request that has more than one spelling.
//!
//! [`head`] checks the bytes of an HTTP/1.x head as they arrived, because a tolerant parser hides the
//! ambiguities on which request smuggling depends. [`path`] checks the target. Both borrow, allocate
//! nothing and change nothing: an accepted request is forwarded as it is, so that the gateway and the
//! worker cannot read it differently. They must never repair a request.
//!
//! [`crate::connection::heads`] calls [`head`] before any parser sees the bytes. Admission calls
//! [`path`]; [`crate::request::route::Table`] requires the resulting [`CanonicalPath`].

mod class;
mod head;
mod identity;
mod malformed;
mod method;
mod path;

#[cfg(test)]
pub(crate) mod tests;

pub use head::{RawHead, head};
pub use identity::in_identity_family;
pub use malformed::Malformed;
pub use method::{METHODS, method_is_served};
pub use path::{CanonicalPath, path};
