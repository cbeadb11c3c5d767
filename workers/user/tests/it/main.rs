//! The user worker against a real MongoDB, through a real listener, with requests signed the way the
//! gateway signs them.

mod accounts;
mod availability;
mod logins;
mod platform;
mod process;
mod store;
