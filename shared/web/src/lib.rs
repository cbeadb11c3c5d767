//! How every worker speaks HTTP: a route table of `async fn(cx, Request) -> Result<Reply, Problem>`,
//! served by hyper with bounds and deadlines everywhere.
//!
//! [`runtime::serve`] accepts the connection, [`service`] checks the gateway's signature before any handler
//! runs, and [`routes`] finds the handler. Every error is answered as problem+json.

pub mod idempotency;
pub mod json;
mod metrics;
pub mod range;
pub mod reply;
pub mod request;
pub mod routes;
pub mod service;

pub use json::{Object, Patch};
pub use range::Part;
pub use reply::{Reply, ReplyBody};
pub use request::{Anybody, IfMatch, Public, Query, Request};
pub use routes::Routes;
pub use service::Service;
