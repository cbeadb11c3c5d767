//! The user worker against a real MongoDB, through a real listener, with requests signed the way
//! the gateway signs them.

mod accounts;
mod attempts;
mod availability;
mod changes;
mod conformance;
mod deletion;
mod lifecycle;
mod logins;
mod passwords;
mod platform;
mod process;
mod refreshes;
mod registrations;
mod sessions;
mod store;
