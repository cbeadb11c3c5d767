//! Accounts, sessions and the values that they consist of. Pure: no I/O, no HTTP. Handlers and
//! stores call it.
//!
//! E-mail addresses, names and passwords must never reach a log: the types here hide them from
//! `Debug`.

mod attempts;
mod email;
mod name;
mod password;
mod refresh;
mod registration;
mod session;
mod user;

pub use attempts::{CounterKey, Quota};
pub use email::{Email, EmailKey};
pub use name::Name;
pub use password::{Password, PasswordHash};
pub use refresh::{GRACE, Presented, RefreshToken, Salt, TokenFamily, TokenHash};
pub use registration::Registration;
pub use session::{LIFETIME, LONGEST_LIFE, Session};
pub use user::{Change, User};
