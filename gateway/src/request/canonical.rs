//! One spelling of a request, or a refusal.
//!
//! [`head`] judges the bytes of an HTTP/1.x head as they came in, because a tolerant parser hides
//! the ambiguities that smuggling lives on; [`path`] judges the target. Both borrow, allocate
//! nothing and change nothing: what is accepted is forwarded as it is, so the gateway and the
//! worker cannot read it differently. They must never repair a request.
//!
//! [`crate::connection::heads`] asks for the head before any parser sees it, admission for the path;
//! [`crate::request::route::Table`] takes the [`CanonicalPath`] as evidence.

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
