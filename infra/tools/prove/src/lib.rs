//! The proofs of events and limits: see `tests/`. They start the real binaries on real servers, inflict
//! faults, and hold what every client was answered against what can be read in the end.
