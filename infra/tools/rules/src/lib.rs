//! Reads the sources of a crate and finds cycles among its files.
//!
//! A file uses another one if a path in it, outside tests, leads to an item that the other one defines.
//! `pub use` is followed to the definition, so a file that only declares and re-exports modules is never
//! part of a cycle. Paths inside macro calls are not seen.

mod graph;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// For each file of the crate in `src`, the files that it uses. All paths are relative to `src`.
pub fn uses(src: &Path) -> Result<BTreeMap<String, BTreeSet<String>>, String> {
    Ok(graph::uses(&source::read(src)?))
}

/// The cycles of the crate whose `lib.rs` or `main.rs` lies in `src`. Each cycle is the list of its files,
/// relative to `src`. A file that cannot be read or parsed is an error.
pub fn cycles(src: &Path) -> Result<Vec<Vec<String>>, String> {
    Ok(graph::cycles(&uses(src)?))
}
