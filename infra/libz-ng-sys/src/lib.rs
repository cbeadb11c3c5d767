//! The interface of zlib-ng, as far as flate2 uses it, by zlib.
//!
//! Pingora turns on flate2's `zlib-ng`, whose crate of this name is C that needs cmake. Nothing else
//! of ours does, and who starts Sluice needs no more than Rust and a C compiler. Both libraries have
//! one interface but for the width of some integers, which flate2 converts.

pub use libz_sys::*;
