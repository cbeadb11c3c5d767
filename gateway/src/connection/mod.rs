//! From bytes to requests, and the end of it: the listener, request heads read whole and in time, and
//! the drain.
//!
//! [`listener`] takes connections, [`heads`] reads what each of them sends and hands it to
//! [`crate::request`]. [`signals`] ask for the end, [`drain`] brings it about, and [`lifecycle`] counts
//! what it has to wait for.

pub mod lifecycle;
pub mod signals;

pub(crate) mod drain;
pub(crate) mod heads;
pub(crate) mod listener;
