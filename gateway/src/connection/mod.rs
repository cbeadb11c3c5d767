//! Connections: the listener, request heads read whole and in time, and the drain at shutdown.
//!
//! [`listener`] accepts connections. [`heads`] reads the request heads that arrive on them and passes
//! the requests to [`crate::request`]. [`signals`] receives the request to shut down, [`drain`] carries
//! it out, and [`lifecycle`] counts the connections and requests that the drain waits for.

pub mod lifecycle;
pub mod signals;

pub(crate) mod drain;
pub(crate) mod heads;
pub(crate) mod listener;
