//! The proofs of events and limits, in `tests/`. They start the real binaries on real servers, inject
//! faults, and check the answers that clients got.
