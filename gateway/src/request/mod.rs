//! The life of one request, from its head to its log line.
//!
//! [`canonical`] checks that the request has only one spelling, and [`route`] finds its service.
//! [`admission`] calls both, then verifies the caller and takes the request's tokens. [`proxy`] forwards
//! an admitted request with the identity that [`headers`] sets; any other request ends as a [`refusal`].
//! [`exchange`] decides what may be retried and what a failed attempt means to the client.

pub mod canonical;
pub mod route;

pub mod active_config;
pub mod admission;

pub mod ctx;
pub mod exchange;
pub mod headers;
pub mod proxy;
pub mod refusal;
