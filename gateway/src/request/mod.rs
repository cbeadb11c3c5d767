//! The life of one request, from its head to its log line.
//!
//! [`canonical`] finds its one spelling, [`route`] its service, [`admission`] tells who sends it and
//! takes its tokens. [`proxy`] forwards what was admitted, with the identity that [`headers`] set; what
//! was not leaves as a [`refusal`]. [`exchange`] says what may be sent twice and what a failed attempt
//! means.

pub mod canonical;
pub mod route;

pub mod active_config;
pub mod admission;

pub mod ctx;
pub mod exchange;
pub mod headers;
pub mod proxy;
pub mod refusal;
