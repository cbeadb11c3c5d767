//! Notifications in MongoDB. Its collections are `notifications`, `processed` (ids of applied events),
//! `counters` (one document per user: `sequence`, `unread`, `purged`, and a tombstone if the user was
//! deleted) and `answers` (to read-all requests with an `Idempotency-Key`). The worker's process, the
//! platform in one process and its import use it.
//!
//! Invariant: a count changes in the same transaction as what it counts. Transactions run under
//! snapshot isolation: two that write one user's counter cannot both commit, and the later one starts
//! over on the result of the earlier one. So a sequence number becomes visible only after all smaller
//! ones, and no count is lost.

mod answers;
mod apply;
mod document;
mod forget;
mod import;
mod indexes;
mod lists;
mod marks;
mod port;
mod read_all;
mod remembered;
mod store;
mod transaction;

pub use store::MongoNotifications;
