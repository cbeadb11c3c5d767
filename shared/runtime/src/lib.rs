//! What every process of the platform needs, gateway and worker alike: settings from the environment,
//! logs and metrics, supervised background tasks, a bounded HTTP client, and a listener that reports
//! its readiness and drains.
//!
//! It knows no route, no store and no broker.

pub mod env;
pub mod secret;

pub mod error;
pub mod supervise;
pub mod telemetry;
pub mod time;

pub mod body;
pub mod client;
pub mod operations;
pub mod readiness;
pub mod serve;
pub mod sse;
mod stall;

pub mod process;
pub mod worker;
