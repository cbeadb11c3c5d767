//! What an account and a session are, and which texts may be part of them. Pure: no I/O, no HTTP.
//!
//! Who a person is (address, name) and what they know (password) never reaches a log: the types
//! here hide it from `Debug`.

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
pub use refresh::{Chain, GRACE, RefreshToken, Salt, Shown, TokenHash};
pub use registration::Registration;
pub use session::{LIFETIME, LONGEST_LIFE, Session};
pub use user::{Change, User};
